/** The table of templates of target cuda. `generated` applies to every kernel; the others to what their file says. */
import { Bug } from '../../core/errors.ts';
import { attend } from './attend.ts';
import { depthwise } from './depthwise.ts';
import { generated } from './generated.ts';
import type { CudaTemplate } from './template.ts';
import { tensorCores } from './tensor-cores.ts';
import { tensorCoresResident } from './tensor-cores-resident.ts';
import { tensorCoresWindow } from './tensor-cores-window.ts';
import { tiled } from './tiled.ts';

export const CUDA_TEMPLATES: readonly CudaTemplate[] = [
  tensorCores,
  tensorCoresResident,
  tensorCoresWindow,
  attend,
  tiled,
  depthwise,
  generated,
];

/** Throws Bug where no template has the name. */
export function templateOf(name: string): CudaTemplate {
  const template = CUDA_TEMPLATES.find((t) => t.name === name);
  if (!template) throw new Bug('cuda-template', `no CUDA template is named "${name}"`);
  return template;
}
