/** The table of templates that CPU targets share. `generated` applies to every kernel; the others to what their file says. */
import { attend } from './attend.ts';
import { bytes } from './contract-bytes.ts';
import { dot } from './contract-dot.ts';
import { direct, gathered, panels } from './contract-templates.ts';
import { depthwise } from './depthwise.ts';
import { generated } from './generated.ts';
import { grouped } from './grouped.ts';
import type { CpuTemplate } from './template.ts';
import { winograd } from './winograd.ts';

export const CPU_TEMPLATES: readonly CpuTemplate[] = [
  panels,
  bytes,
  direct,
  gathered,
  winograd,
  dot,
  depthwise,
  attend,
  grouped,
  generated,
];
