/**
 * Weights of a convolution with 3×3 windows as Winograd's micro-kernels read them: U = G g Gᵀ, computed in float64, rounded once.
 *
 * In comes the operand b in its own layout, out `[panel of n][point][k][width]`: one run of memory a panel.
 */
import { Bug } from '../../core/errors.ts';
import { packedElements, type WinogradPacking } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { constantOffset, offsetTable } from './packing.ts';
import { winogradMatrices } from './winograd-matrices.ts';
import { planWinograd, summedOf } from './winograd-plan.ts';

/** `data` begins at the first element of the operand's buffer. */
export function packWinograd(data: Float32Array, kernel: Kernel, packing: WinogradPacking): Float32Array {
  const plan = planWinograd(kernel);
  const { tile, step, width, k, n } = packing;
  if (!plan || summedOf(plan) !== k || plan.n.extent !== n || plan.step !== step) {
    throw new Bug('cpu-packing', `packing ${JSON.stringify(packing)} does not fit kernel ${kernel.name}`);
  }
  const { points, g } = winogradMatrices(tile, step);
  const offsets = (axis: { readonly name: string; readonly extent: number }) => offsetTable(plan.b, [axis], 0);
  const [ofN, ofK, ofRow, ofColumn] = [plan.n, plan.channel, plan.y.tap, plan.x.tap].map(offsets);
  const ofDepth = plan.depth ? offsets(plan.depth.tap) : [0];
  const start = constantOffset(plan.b);
  const out = new Float32Array(packedElements(packing));
  const panelElements = points ** 2 * k * width;
  const rows = new Float64Array(points * 3);
  for (let column = 0; column < n; column++) {
    const lane = Math.floor(column / width) * panelElements + (column % width);
    for (let channel = 0; channel < k; channel++) {
      const tap = Math.floor(channel / ofK.length);
      const from = start + ofN[column] + ofDepth[tap] + ofK[channel % ofK.length];
      for (let i = 0; i < points; i++) {
        for (let x = 0; x < 3; x++) {
          let sum = 0;
          for (let y = 0; y < 3; y++) sum += g[i][y] * data[from + ofRow[y] + ofColumn[x]];
          rows[i * 3 + x] = sum;
        }
      }
      for (let i = 0; i < points; i++) {
        for (let j = 0; j < points; j++) {
          const u = rows[i * 3] * g[j][0] + rows[i * 3 + 1] * g[j][1] + rows[i * 3 + 2] * g[j][2];
          out[lane + ((i * points + j) * k + channel) * width] = u;
        }
      }
    }
  }
  return out;
}
