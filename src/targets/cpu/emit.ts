/**
 * One kernel as code: finds the tactic's template in the table and lets it write through the assembler.
 * The emitted function does the tiles [begin, end) of the template's index space; it is the same for the same kernel and tactic.
 */
import { Bug } from '../../core/errors.ts';
import type { Tactic } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Asm } from './asm.ts';
import type { CpuTemplate } from './template.ts';
import { CPU_TEMPLATES } from './templates.ts';

/** Throws Bug where no template has the tactic's name. */
export function templateOf(tactic: Pick<Tactic, 'template'>): CpuTemplate {
  const template = CPU_TEMPLATES.find((t) => t.name === tactic.template);
  if (!template) throw new Bug('cpu-template', `no CPU template is named "${tactic.template}"`);
  return template;
}

/** Tiles that are better done in one call: whoever shares them out gives so many at least. */
export const grainOf = (kernel: Kernel, tactic: Tactic): number =>
  templateOf(tactic).grain?.(kernel, tactic.params) ?? 1;

export function emitKernel(asm: Asm, kernel: Kernel, tactic: Tactic): void {
  templateOf(tactic).emit(asm, kernel, tactic.params);
}
