/** Weights of a grouped convolution as its micro-kernel reads them; engine/engine.ts says how they lie. */
import { Bug } from '../../core/errors.ts';
import { type GroupsPacking, packedElements } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { planGrouped } from './grouped-plan.ts';
import { constantOffset, offsetTable } from './packing.ts';

/** Lanes that exchange elements: what `repeatLane` repeats within. */
const FOUR = 4;

/** `data` begins at the first element of the operand's buffer. */
export function packGroups(data: Float32Array, kernel: Kernel, packing: GroupsPacking): Float32Array {
  const plan = planGrouped(kernel);
  const { form } = kernel;
  const { width, per, taps, n } = packing;
  if (!plan || form.kind !== 'contract' || plan.per !== per || plan.channel.extent !== n)
    throw new Bug('cpu-packing', `packing ${JSON.stringify(packing)} does not fit kernel ${kernel.name}`);
  const of = (axes: readonly { readonly name: string; readonly extent: number }[]) => offsetTable(form.b, axes, 0);
  const [ofGroup, ofOutput, ofSummed] = [plan.group, plan.output, plan.summed].map((axis) => of([axis]));
  const ofTap = of([...plan.outerTaps, ...(plan.tap ? [plan.tap] : [])]);
  const start = constantOffset(form.b);
  const fours = per / FOUR;
  const out = new Float32Array(packedElements(packing));
  let at = 0;
  for (let first = 0; first < n; first += width) {
    for (let tap = 0; tap < taps; tap++) {
      for (let lane = 0; lane < FOUR; lane++) {
        for (let turn = 0; turn < fours; turn++) {
          for (let i = 0; i < width; i++, at++) {
            const channel = first + i;
            const four = Math.floor((channel % per) / FOUR);
            const output = (four ^ turn) * FOUR + (channel % FOUR);
            const from = ofGroup[Math.floor(channel / per)] + ofOutput[output] + ofSummed[four * FOUR + lane];
            out[at] = data[start + from + ofTap[tap]];
          }
        }
      }
    }
  }
  return out;
}
