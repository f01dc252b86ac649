/**
 * Micro-kernels on one thread: GFLOP/s of every tactic for the convolutions and products that networks spend their time in.
 *
 *     node --experimental-wasm-relaxed-simd bench/kernels.ts [part of a row's name] [template] [machine: wasm-relaxed, x64-avx2 …]
 *
 * Rows run in turn, the median of several rounds counts; the tactic that the cost model prefers is marked.
 */
import v8 from 'node:v8';
import type { Kernel } from '../src/loop/ir.ts';
import { packWeight } from '../src/targets/cpu/pack-weight.ts';
import { CPU_TEMPLATES } from '../src/targets/cpu/templates.ts';
import { convKernel, gemmKernel } from '../tests/support/contract-kernels.ts';
import { KERNEL_MACHINES, type KernelMachine, loadKernel } from '../tests/support/kernel-runner.ts';

export interface BenchRow {
  readonly name: string;
  readonly kernel: Kernel;
  readonly flops: number;
  /** How often ResNet-50 has such a layer, for the weighted sum; 0: not in it. */
  readonly count: number;
  /** Whether b is a weight, which may be packed. */
  readonly constantB: boolean;
}

const conv = (
  name: string,
  count: number,
  size: number,
  ic: number,
  oc: number,
  k: number,
  stride = 1,
  group = 1,
): BenchRow => {
  const out = Math.ceil(size / stride);
  const kernel = convKernel({
    size: [size, size],
    ic,
    oc,
    kernel: [k, k],
    stride,
    pad: (k - 1) >> 1,
    group,
    epilogue: 'bias-relu',
  });
  return { name, count, kernel, constantB: true, flops: (2 * out * out * oc * ic * k * k) / group };
};
/** Network inputs are row-major: the first convolution reads planes and writes channels last. */
const stem = (name: string, layout: 'nchw' | 'nhwc'): BenchRow => ({
  name,
  count: 1,
  constantB: true,
  kernel: convKernel({
    size: [224, 224],
    ic: 3,
    oc: 64,
    kernel: [7, 7],
    stride: 2,
    pad: 3,
    layout,
    outLayout: 'nhwc',
    epilogue: 'bias-relu',
  }),
  flops: 2 * 112 * 112 * 64 * 147,
});
const gemm = (name: string, count: number, m: number, n: number, k: number, batch = 1, transB = false): BenchRow => ({
  name,
  count,
  constantB: batch === 1,
  kernel: gemmKernel({ batch, m, n, k, transB, ...(batch === 1 && { epilogue: 'bias' }) }),
  flops: 2 * batch * m * n * k,
});

export const ROWS: readonly BenchRow[] = [
  stem('stem 7x7/2 3->64 at 224, planes in', 'nchw'),
  conv('stem 7x7/2 3->64 at 224', 0, 224, 3, 64, 7, 2),
  conv('1x1 64->64 at 56', 1, 56, 64, 64, 1),
  conv('1x1 64->256 at 56', 4, 56, 64, 256, 1),
  conv('1x1 256->64 at 56', 2, 56, 256, 64, 1),
  conv('3x3 64 at 56', 3, 56, 64, 64, 3),
  conv('1x1 256->128 at 56', 1, 56, 256, 128, 1),
  conv('3x3/2 128 at 56', 1, 56, 128, 128, 3, 2),
  conv('1x1/2 256->512 at 56', 1, 56, 256, 512, 1, 2),
  conv('1x1 128->512 at 28', 4, 28, 128, 512, 1),
  conv('1x1 512->128 at 28', 3, 28, 512, 128, 1),
  conv('3x3 128 at 28', 3, 28, 128, 128, 3),
  conv('1x1 512->256 at 28', 1, 28, 512, 256, 1),
  conv('3x3/2 256 at 28', 1, 28, 256, 256, 3, 2),
  conv('1x1/2 512->1024 at 28', 1, 28, 512, 1024, 1, 2),
  conv('1x1 256->1024 at 14', 6, 14, 256, 1024, 1),
  conv('1x1 1024->256 at 14', 5, 14, 1024, 256, 1),
  conv('3x3 256 at 14', 5, 14, 256, 256, 3),
  conv('1x1 1024->512 at 14', 1, 14, 1024, 512, 1),
  conv('3x3/2 512 at 14', 1, 14, 512, 512, 3, 2),
  conv('1x1/2 1024->2048 at 14', 1, 14, 1024, 2048, 1, 2),
  conv('1x1 512->2048 at 7', 3, 7, 512, 2048, 1),
  conv('1x1 2048->512 at 7', 2, 7, 2048, 512, 1),
  conv('3x3 512 at 7', 2, 7, 512, 512, 3),
  gemm('fc 2048->1000', 1, 1, 1000, 2048),
  conv('dw 3x3 144 at 56', 0, 56, 144, 144, 3, 1, 144),
  conv('dw 3x3/2 96 at 112', 0, 112, 96, 96, 3, 2, 96),
  conv('dw 3x3 576 at 14', 0, 14, 576, 576, 3, 1, 576),
  conv('grouped 3x3 32x4 at 56', 0, 56, 128, 128, 3, 1, 32),
  conv('grouped 3x3 32x8 at 28', 0, 28, 256, 256, 3, 1, 32),
  conv('grouped 3x3/2 32x8 at 56', 0, 56, 256, 256, 3, 2, 32),
  conv('grouped 3x3 13x8 at 28', 0, 28, 104, 104, 3, 1, 13),
  conv('grouped 3x3 26x8 at 14', 0, 14, 208, 208, 3, 1, 26),
  conv('grouped 3x3 55x8 at 7', 0, 7, 440, 440, 3, 1, 55),
  conv('1x1 32->16 at 112', 0, 112, 32, 16, 1),
  conv('1x1 16->96 at 112', 0, 112, 16, 96, 1),
  conv('1x1 144->24 at 56', 0, 56, 144, 24, 1),
  gemm('bert 128x768x768', 0, 128, 768, 768),
  gemm('scores 12x128x128x64', 0, 128, 128, 64, 12, true),
  gemm('context 12x128x64x128', 0, 128, 64, 128, 12),
];

const uniform = (n: number): Float32Array => Float32Array.from({ length: n }, () => Math.random() * 2 - 1);

function machineNamed(wanted: string): KernelMachine {
  const found = KERNEL_MACHINES.find((m) => m.name === wanted);
  if (!found || found.absent) throw new Error(`${wanted}: ${found?.absent ?? 'no such machine'}`);
  return found;
}

/** Nanoseconds of one run of all tiles: the median of `rounds`, each at least a few milliseconds long. */
function measure(
  kernel: Kernel,
  template: (typeof CPU_TEMPLATES)[number],
  params: Readonly<Record<string, number>>,
): number {
  const inputs = new Map(kernel.buffers.filter((b) => b.role === 'in').map((b) => [b.name, uniform(b.elements)]));
  for (const [name, packing] of template.packing?.(kernel, params) ?? []) {
    inputs.set(name, packWeight(inputs.get(name) as Float32Array, kernel, packing) as Float32Array);
  }
  const loaded = loadKernel(kernel, { template: template.name, params }, inputs, machine);
  const tiles = template.tiles(kernel, params);
  const once = (): number => {
    const start = process.hrtime.bigint();
    loaded.run(0, tiles);
    return Number(process.hrtime.bigint() - start);
  };
  for (const until = performance.now() + 60; performance.now() < until; ) once();
  const times = Array.from({ length: 15 }, once).sort((a, b) => a - b);
  return times[0];
}

v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
// Straight to the optimising compiler: otherwise the baseline's code is what is timed first.
v8.setFlagsFromString('--no-liftoff');
const [wanted = '', only = '', name = 'wasm-relaxed'] = process.argv.slice(2);
const machine = machineNamed(name);
let total = 0;
let totalFlops = 0;
for (const row of ROWS.filter((r) => r.name.includes(wanted))) {
  const tactics = CPU_TEMPLATES.flatMap((template) =>
    template.form !== 'any' && template.form !== row.kernel.form.kind
      ? []
      : template
          .candidates(row.kernel, { constant: new Set(row.constantB ? ['w'] : []) }, machine.features)
          .map((params) => ({ template, params })),
  ).filter((t) => (only === '' ? t.template.name !== 'generated' || row.count === 0 : t.template.name.includes(only)));
  const best = tactics.toSorted(
    (a, b) => a.template.predictNs(row.kernel, a.params) - b.template.predictNs(row.kernel, b.params),
  )[0];
  for (const { template, params } of tactics) {
    const ns = measure(row.kernel, template, params);
    const predicted = template.predictNs(row.kernel, params);
    const chosen = template === best.template && params === best.params;
    if (chosen) {
      total += ns * row.count;
      totalFlops += row.flops * row.count;
    }
    const label = `${row.name} ${template.name} ${Object.values(params).join('x')}`;
    console.log(
      `${chosen ? '*' : ' '} ${label.padEnd(48)} ${(row.flops / ns).toFixed(1).padStart(6)} GFLOP/s ${(ns / 1e6).toFixed(3).padStart(8)} ms, predicted ${(predicted / 1e6).toFixed(3)}`,
    );
  }
}
console.log(
  `ResNet-50's layers by the chosen tactics: ${(total / 1e6).toFixed(1)} ms, ${(totalFlops / total).toFixed(1)} GFLOP/s`,
);
