/** A constant operand in the arrangement that a tactic's template asked for. */
import type { TypedArray } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import type { Packing } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { packGroups } from './grouped-weights.ts';
import { packBytes, packWords } from './pack-bytes.ts';
import { packPanels } from './packing.ts';
import { packWinograd } from './winograd-weights.ts';

/** `data` begins at the first element of the operand's buffer, and is f32, or i8 for bytes. */
export function packWeight(data: TypedArray, kernel: Kernel, packing: Packing): TypedArray {
  switch (packing.kind) {
    case 'panels':
      return packPanels(data as Float32Array, kernel, packing);
    case 'winograd':
      return packWinograd(data as Float32Array, kernel, packing);
    case 'bytes':
      return packBytes(data as Int8Array, kernel, packing);
    case 'words':
      return packWords(data as Int8Array, kernel, packing);
    case 'groups':
      return packGroups(data as Float32Array, kernel, packing);
    case 'rows':
      throw new Bug('cpu-packing', `kernel ${kernel.name}: no CPU template reads rows`);
    default:
      return packing satisfies never;
  }
}
