/**
 * i8 weights arranged for dot products: see BytesPacking. In comes a contract's operand b in its own layout, out what a kernel streams.
 */
import { Bug } from '../../core/errors.ts';
import { type BytesPacking, packedElements, packedPanelBytes, type WordsPacking } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { constantOffset, offsetTable, packPanels } from './packing.ts';

/** What the machine adds to each byte of a signed operand that it takes as unsigned. */
const SIGN_SHIFT = 128;

/** `data` begins at the first element of the operand's buffer. */
export function packBytes(data: Int8Array, kernel: Kernel, packing: BytesPacking): Int8Array {
  const { form } = kernel;
  if (form.kind !== 'contract') throw new Bug('cpu-packing', `kernel ${kernel.name} is no contract`);
  const { width, batch, outer, run, n, step, starts } = packing;
  const along = (role: string, constant: number): Int32Array =>
    offsetTable(
      form.b,
      form.axes.filter((a) => a.role === role),
      constant,
    );
  const [ofBatch, ofK, ofN] = [along('batch', constantOffset(form.b)), along('k', 0), along('n', 0)];
  if (ofBatch.length !== batch || ofK.length !== outer * run || ofN.length !== n) {
    throw new Bug('cpu-packing', `packing ${JSON.stringify(packing)} does not fit kernel ${kernel.name}`);
  }
  const out = new Int8Array(packedElements(packing));
  const words = new DataView(out.buffer);
  const panelBytes = packedPanelBytes(packing);
  const part = step === 4 ? 4 : 2;
  const groups = Math.ceil(run / step);
  for (let panel = 0, first = 0; first < out.length - packing.zeros; panel++, first += panelBytes) {
    const panels = Math.ceil(n / width);
    const from = ofBatch[Math.floor(panel / panels)];
    const column = (panel % panels) * width;
    const columns = Math.min(width, n - column);
    let at = first + (starts ? 4 * width : 0);
    for (let i = 0; i < outer * groups; i++) {
      const [tap, group] = [Math.floor(i / groups) * run, i % groups];
      const start = Math.min(group * step, run - step);
      for (let p = 0; p < step; p += part) {
        for (let c = 0; c < width; c++) {
          for (let k = start + p; k < start + p + part; k++, at++) {
            if (c < columns && k >= group * step) out[at] = data[from + ofN[column + c] + ofK[tap + k]];
          }
        }
      }
    }
    if (!starts) continue;
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let k = 0; k < ofK.length; k++) sum += data[from + ofN[column + c] + ofK[k]];
      words.setInt32(first + 4 * c, -SIGN_SHIFT * sum, true);
    }
  }
  return out;
}

/** The weights of a depthwise convolution, channels side by side. */
export function packWords(data: Int8Array, kernel: Kernel, { width, k, n }: WordsPacking): Int8Array {
  const panels = packPanels(Float32Array.from(data), kernel, { kind: 'panels', width, batch: 1, k, n, zeros: 0 });
  return new Int8Array(Int32Array.from(panels, (x) => x & 0xffff).buffer);
}
