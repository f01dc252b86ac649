/**
 * Every tensor-core row for each layer of ResNet-50, as PTX for `cuda-layers.py` to time on a GPU:
 *
 *     npm run build && node bench/cuda-layers.mjs '[1,128]' work
 *     ls work/*.ptx | xargs -P 16 -I{} sh -c 'ptxas -arch=$(sed -n "s/^.target //p" {}) -o $(echo {} | sed s/ptx$/cubin/) {}'
 *     python3 bench/cuda-layers.py '[1,128]' work
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseKernel } from '../dist/loop/parse.js';
import { predictGemmNs } from '../dist/targets/cuda/gemm-cost.js';
import { emitGemm } from '../dist/targets/cuda/gemm-emit.js';
import { rowsPacking } from '../dist/targets/cuda/gemm-packing.js';
import { gemmShape, sharedBytes, tileRows } from '../dist/targets/cuda/gemm-tiles.js';
import { moduleText } from '../dist/targets/cuda/ptx.js';

const CHIP = { sharedBytesPerBlock: 232448, clusters: true, warpgroups: true };
/** Kernels a file, so that ptxas runs side by side. */
const FILE = 24;

/** [size, channels in, channels out, window, stride, residual, how often in the network] */
const LAYERS = [
  [56, 64, 64, 1, 1, 0, 1],
  [56, 64, 64, 3, 1, 0, 3],
  [56, 64, 256, 1, 1, 1, 4],
  [56, 256, 64, 1, 1, 0, 2],
  [56, 256, 128, 1, 1, 0, 1],
  [56, 128, 128, 3, 2, 0, 1],
  [28, 128, 512, 1, 1, 1, 4],
  [56, 256, 512, 1, 2, 1, 1],
  [28, 512, 128, 1, 1, 0, 3],
  [28, 128, 128, 3, 1, 0, 3],
  [28, 512, 256, 1, 1, 0, 1],
  [28, 256, 256, 3, 2, 0, 1],
  [14, 256, 1024, 1, 1, 1, 6],
  [28, 512, 1024, 1, 2, 1, 1],
  [14, 1024, 256, 1, 1, 0, 5],
  [14, 256, 256, 3, 1, 0, 5],
  [14, 1024, 512, 1, 1, 0, 1],
  [14, 512, 512, 3, 2, 0, 1],
  [7, 512, 2048, 1, 1, 1, 3],
  [14, 1024, 2048, 1, 2, 1, 1],
  [7, 2048, 512, 1, 1, 0, 2],
  [7, 512, 512, 3, 1, 0, 2],
  [1, 2048, 1000, 1, 1, 0, 1],
  [224, 3, 64, 7, 2, 0, 1],
];

function layerKernel(batch, [size, ic, oc, window, stride, residual]) {
  const pad = (window - 1) / 2;
  const out = Math.floor((size + 2 * pad - window) / stride) + 1;
  const planes = ic === 3;
  const y = `i2 + i1 * ${oc} + i0 * ${out * oc} + b0 * ${out * out * oc}`;
  const step = stride === 1 ? '' : `${stride}*`;
  const at = (o, k) => `${step}${o}${window > 1 ? ` + ${k} - ${pad}` : ''} < ${size}`;
  const padded = window > 1 ? ' pad' : '';
  const elements = batch * out * out * oc;
  const buffers = [
    `in x: f16[${batch * size * size * ic}]`,
    `in w: f16[${oc * ic * window ** 2}]`,
    `in bias: f16[${oc}]`,
    ...(residual ? [`in r: f16[${elements}]`] : []),
    `out y: f16[${elements}]`,
  ];
  const taps = window > 1 ? `k kh < ${window}, k kw < ${window}, ` : '';
  const [row, column, channel] = planes ? [size, 1, size * size] : [size * ic, ic, 1];
  const bTaps = window > 1 ? `, kh < ${window} stride ${window}, kw < ${window} stride 1` : '';
  const kernel =
    parseKernel(`kernel layer = contract f32 (${buffers.join(', ')}) for m b0 < ${batch}, m i0 < ${out}, m i1 < ${out}, n i2 < ${oc}, ${taps}k ic < ${ic}
  a x[b0 < ${batch} stride ${size * size * ic}, ic < ${ic} stride ${channel}, ${at('i0', 'kh')} stride ${row}${padded}, ${at('i1', 'kw')} stride ${column}${padded}]
  b w[i2 < ${oc} stride ${ic * window ** 2}, ic < ${ic} stride ${window ** 2}${bTaps}] {
  y[${y}] = max(${residual ? `r[${y}] + ` : ''}(f16(acc) + bias[i2]), 0)
}`);
  return { kernel, pad, out, planes };
}

const [batches, folder = 'work'] = [JSON.parse(process.argv[2] ?? '[1]'), process.argv[3]];
mkdirSync(folder, { recursive: true });
for (const batch of batches) {
  LAYERS.forEach((layer, i) => {
    const { kernel, pad, out, planes } = layerKernel(batch, layer);
    const shape = gemmShape(kernel, { constant: new Set(['w']) });
    const rows = tileRows(shape, CHIP);
    const name = `b${batch}_l${i}`;
    const alignments = kernel.buffers.map(() => 64);
    const emitted = rows.map((row, j) =>
      emitGemm({ name: `k${j}`, kernel, alignments, programmatic: true }, shape, row),
    );
    for (let f = 0; f < rows.length; f += FILE) {
      const codes = emitted.slice(f, f + FILE).map(({ code }) => code);
      writeFileSync(`${folder}/${name}_${f / FILE}.ptx`, moduleText(90, codes));
    }
    const list = rows.map((row, j) => ({
      entry: `k${j}`,
      file: `${folder}/${name}_${Math.floor(j / FILE)}.cubin`,
      row,
      predictedNs: predictGemmNs(kernel, shape, row),
      grid: emitted[j].grid,
      block: emitted[j].block,
      cluster: emitted[j].cluster ?? null,
      shared: sharedBytes(row),
    }));
    const [size, ic, oc, window, stride, residual, count] = layer;
    const { pitch } = rowsPacking(shape);
    const facts = { name, batch, size, ic, oc, window, stride, pad, out, residual, count, pitch, k: shape.k, planes };
    writeFileSync(`${folder}/${name}.json`, JSON.stringify({ ...facts, list }));
    console.log(name, rows.length, 'rows');
  });
}
