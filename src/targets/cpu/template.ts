/** A template of a CPU target: what every template is, and how its code is written above the vector assembler. */
import type { Kernel } from '../../loop/ir.ts';
import type { Params, Template } from '../target.ts';
import type { Asm } from './asm.ts';

export interface CpuTemplate extends Template {
  /** Writes the body of the kernel's function: the tiles [begin, end). */
  emit(asm: Asm, kernel: Kernel, params: Params): void;
  /** So many neighbouring tiles share work that each call of the kernel does anew; absent: calls for single tiles cost no more. */
  grain?(kernel: Kernel, params: Params): number;
}
