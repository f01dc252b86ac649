/**
 * Weights arranged for micro-kernels: `[batch][ceil(n / width)][k][width]`, the tail of n filled with zeros, then `zeros` more zeros.
 *
 * In comes a contract's operand b in its own layout, out what a kernel streams: for each panel of `width` columns one run of memory.
 * The columns are the n axes; where there are none (a depthwise convolution) and the packing asks for a single batch, the batch axes.
 * k and n run over their axes in the form's order, outermost first. Offsets of b are separable, a sum of one table a role.
 */
import { Bug } from '../../core/errors.ts';
import { type PanelsPacking, packedElements } from '../../engine/engine.ts';
import type { Access, Axis, Contract, Kernel } from '../../loop/ir.ts';

/** `data` begins at the first element of the operand's buffer. */
export function packPanels(data: Float32Array, kernel: Kernel, packing: PanelsPacking): Float32Array {
  const { width, batch, k, n } = packing;
  const offsets = offsetTables(kernel, packing);
  const out = new Float32Array(packedElements(packing));
  let at = 0;
  for (let b = 0; b < batch; b++) {
    for (let panel = 0; panel < n; panel += width) {
      const columns = Math.min(width, n - panel);
      for (let row = 0; row < k; row++, at += width) {
        const from = offsets.batch[b] + offsets.k[row];
        for (let lane = 0; lane < columns; lane++) out[at + lane] = data[from + offsets.n[panel + lane]];
      }
    }
  }
  return out;
}

/** The inverse: the operand's buffer of `elements` elements, 0 where the operand reads nothing. */
export function unpackPanels(
  packed: Float32Array,
  kernel: Kernel,
  packing: PanelsPacking,
  elements: number,
): Float32Array {
  const { width, batch, k, n } = packing;
  const offsets = offsetTables(kernel, packing);
  const out = new Float32Array(elements);
  let at = 0;
  for (let b = 0; b < batch; b++) {
    for (let panel = 0; panel < n; panel += width) {
      const columns = Math.min(width, n - panel);
      for (let row = 0; row < k; row++, at += width) {
        const to = offsets.batch[b] + offsets.k[row];
        for (let lane = 0; lane < columns; lane++) out[to + offsets.n[panel + lane]] = packed[at + lane];
      }
    }
  }
  return out;
}

/** Offsets in b by flat batch, k and n position; their sum is the element's. The constant part is in the batch table. */
function offsetTables(kernel: Kernel, packing: PanelsPacking) {
  const { form } = kernel;
  if (form.kind !== 'contract') throw new Bug('cpu-packing', `kernel ${kernel.name} is no contract`);
  const { columns, batches } = columnAxes(form, packing);
  const tables = {
    batch: offsetTable(form.b, batches, constantOffset(form.b)),
    k: offsetTable(form.b, axesOf(form, 'k'), 0),
    n: offsetTable(form.b, columns, 0),
  };
  if (tables.batch.length !== packing.batch || tables.k.length !== packing.k || tables.n.length !== packing.n) {
    throw new Bug('cpu-packing', `packing ${JSON.stringify(packing)} does not fit kernel ${kernel.name}`);
  }
  return tables;
}

const axesOf = (form: Contract, role: string): readonly Axis[] => form.axes.filter((a) => a.role === role);

function columnAxes(form: Contract, packing: PanelsPacking) {
  const n = axesOf(form, 'n');
  const batch = axesOf(form, 'batch');
  const isDepthwise = n.every((a) => a.extent === 1) && packing.batch === 1;
  return isDepthwise ? { columns: [...batch, ...n], batches: [] } : { columns: n, batches: batch };
}

/** Of an access, in elements, where all axes are 0. */
export const constantOffset = (b: Access): number => b.dims.reduce((sum, d) => sum + d.at.constant * d.stride, 0);

/** By flat position along the axes, what they add to the offset of an access, and `constant`. */
export function offsetTable(b: Access, axes: readonly Axis[], constant: number): Int32Array {
  let table = Int32Array.of(constant);
  for (const axis of axes) {
    const stride = b.dims.reduce(
      (sum, d) => sum + d.stride * d.at.terms.reduce((c, t) => c + (t.axis === axis.name ? t.coef : 0), 0),
      0,
    );
    const outer = table;
    table = new Int32Array(outer.length * axis.extent);
    for (let i = 0, at = 0; i < outer.length; i++) {
      for (let j = 0; j < axis.extent; j++) table[at++] = outer[i] + j * stride;
    }
  }
  return table;
}
