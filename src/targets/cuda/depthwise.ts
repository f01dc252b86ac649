/**
 * Depthwise convolutions with channels innermost: a thread computes `lanes` channels of `columns` neighbouring outputs of a row.
 *
 *     for each row of taps:  for each tap of the row:  for each column:  sums[column] += a[row, column at tap] · w[row, tap]
 *
 * The taps of a row are written out, so what outputs share (weights, and columns of the input that several of them see) is loaded once
 * into registers: equal loads are one load (emit-expr.ts). Weights are packed with the channels innermost, [taps][channels].
 */
import { DTYPES } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import type { Packing } from '../../engine/engine.ts';
import { contractKernel } from '../../loop/contract.ts';
import type { Access, Axis, Contract, Expr, Kernel } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import type { KernelFacts, Params } from '../target.ts';
import { BodyEmitter } from './emit-body.ts';
import { ExprEmitter } from './emit-expr.ts';
import { coefOf, extentOf, isLimited, planGemm } from './gemm-plan.ts';
import { bindPoint } from './generated.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { mostElements } from './registers.ts';
import { CUDA_OPS } from './scalar-ops.ts';
import { beginKernel, bufferArgs, type CudaTemplate, type EmittedKernel, type KernelSite } from './template.ts';

interface DepthwisePlan {
  readonly form: Contract;
  readonly channel: Axis;
  /** The m axis along a row of the output, undefined where there is one column; and the others. */
  readonly column: Axis | undefined;
  readonly outer: readonly Axis[];
  readonly taps: readonly Axis[];
}

const LAUNCH_NS = 2000;
const BYTES_PER_NS = 2500;
/** What the first-level caches of all multiprocessors deliver. */
const CACHE_BYTES_PER_NS = 12_000;
const OPS_PER_NS = 12_000;
/** Threads that hide the latency of memory. */
const ENOUGH_THREADS = 40_000;
const MOST_TAPS = 64;
const MOST_REGISTERS = 170;
const BLOCK = 128;
/** Taps up to which the rows are written out too. */
const MOST_WRITTEN = 25;

const plans = new WeakMap<Kernel, DepthwisePlan | null>();

function planOf(kernel: Kernel): DepthwisePlan | undefined {
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = makePlan(kernel);
  plans.set(kernel, plan ?? null);
  return plan;
}

function makePlan(kernel: Kernel): DepthwisePlan | undefined {
  const gemm = planGemm(kernel);
  if (!gemm || isLimited(gemm) || gemm.n.length > 0 || gemm.batch.length !== 1 || extentOf(gemm.k) > MOST_TAPS)
    return undefined;
  if (gemm.form.acc !== 'f32') return undefined;
  const [channel] = gemm.batch;
  if (coefOf(gemm.a, channel.name) !== 1 || gemm.a.guards.some((g) => coefOf(g, channel.name) !== 0)) return undefined;
  const role = (r: string): Axis[] => gemm.form.axes.filter((a) => a.role === r && a.extent > 1);
  const m = role('m');
  return { form: gemm.form, channel, column: m.at(-1), outer: m.slice(0, -1), taps: role('k') };
}

export const depthwise: CudaTemplate = {
  name: 'depthwise',
  form: 'contract',
  candidates: (kernel, facts: KernelFacts) => {
    const plan = planOf(kernel);
    if (!plan || !facts.constant.has(plan.form.b.buffer)) return [];
    const most = mostElements(dtypeOf(kernel, plan.form.a.buffer));
    const rows: Params[] = [];
    for (const lanes of [8, 4, 2, 1]) {
      if (lanes > most || plan.channel.extent % lanes !== 0) continue;
      for (const columns of [4, 2, 1]) {
        if (columns > 1 && (plan.column?.extent ?? 1) % columns !== 0) continue;
        if (lanes > 1 && registersOf(plan, lanes, columns) > MOST_REGISTERS) continue;
        rows.push({ lanes, columns });
      }
    }
    return rows;
  },
  predictNs: (kernel, { lanes, columns }) => {
    const plan = planOf(kernel)!;
    const { bytes } = DTYPES[dtypeOf(kernel, plan.form.a.buffer)];
    const taps = extentOf(plan.taps);
    const threads = (outputsOf(plan) * plan.channel.extent) / (lanes * columns);
    const loads = taps + inputColumns(plan, columns) * rowsOf(plan);
    const memory = kernel.buffers.reduce((n, b) => n + b.elements * DTYPES[b.dtype].bytes, 0) / BYTES_PER_NS;
    const cache = (threads * loads * lanes * bytes) / CACHE_BYTES_PER_NS;
    const work = (threads * (loads * (3 + lanes) + taps * lanes * columns)) / OPS_PER_NS;
    const waiting = 400 * Math.max(0, 1 - threads / ENOUGH_THREADS) * Math.log2(lanes * columns + 1);
    return LAUNCH_NS + Math.max(memory, cache, work) + waiting;
  },
  tiles: (kernel, { lanes, columns }) => {
    const plan = planOf(kernel)!;
    return (outputsOf(plan) * plan.channel.extent) / (lanes * columns);
  },
  packing: (kernel) => {
    const plan = planOf(kernel)!;
    return new Map([[plan.form.b.buffer, packingOf(plan, planGemm(kernel)!.b.constant, kernel)]]);
  },
  emit: (site) => emitDepthwise(site, planOf(site.kernel)!),
};

const dtypeOf = (kernel: Kernel, buffer: string) => kernel.buffers.find((b) => b.name === buffer)!.dtype;
const outputsOf = ({ column, outer }: DepthwisePlan): number => extentOf(outer) * (column?.extent ?? 1);

/** Columns of the input that neighbouring outputs see in one row of taps, and rows of taps. */
function inputColumns({ form, column, taps }: DepthwisePlan, columns: number): number {
  const tap = taps.at(-1);
  if (!tap) return columns;
  const strideOf = (axis: string): number =>
    form.a.dims.reduce((n, d) => n + d.stride * (d.at.terms.find((t) => t.axis === axis)?.coef ?? 0), 0);
  const [step, tapStep] = [column ? strideOf(column.name) : 0, strideOf(tap.name)];
  const apart = tapStep > 0 ? step / tapStep : tap.extent;
  return tap.extent + (columns - 1) * Math.min(apart, tap.extent);
}
const rowsOf = ({ taps }: DepthwisePlan): number => extentOf(taps.slice(0, -1));

/** Registers for the weights of a row of taps, the input that it sees, and the sums. */
const registersOf = (plan: DepthwisePlan, lanes: number, columns: number): number =>
  lanes * ((plan.taps.at(-1)?.extent ?? 1) + inputColumns(plan, columns) + columns);

function packingOf(plan: DepthwisePlan, offset: number, kernel: Kernel): Packing {
  const { b } = planGemm(kernel)!;
  const along = (axes: readonly Axis[]) => axes.map((x) => ({ extent: x.extent, stride: coefOf(b, x.name) }));
  const { channel, taps } = plan;
  return { kind: 'rows', rows: along(taps), k: along([channel]), offset, pitch: channel.extent, tf32: false };
}

/** The kernel as it reads packed weights. */
function withPackedWeights(kernel: Kernel, { form, taps, channel }: DepthwisePlan): Kernel {
  let stride = 1;
  const dims = [...taps, channel].toReversed().map(({ name, extent }) => {
    const dim = { at: { terms: [{ axis: name, coef: 1 }], constant: 0 }, extent, stride, padded: false };
    stride *= extent;
    return dim;
  });
  const b: Access = { buffer: form.b.buffer, dims: dims.reverse() };
  const buffers = kernel.buffers.map((x) => (x.name === b.buffer ? { ...x, elements: stride } : x));
  return contractKernel(kernel.name, buffers, { ...form, b });
}

function emitDepthwise(site: KernelSite, plan: DepthwisePlan): EmittedKernel {
  const { lanes, columns } = site.params;
  const { channel, column, outer } = plan;
  const kernel = legalizeKernel(withPackedWeights(site.kernel, plan), CUDA_OPS);
  const { code: k, buffers } = beginKernel(site, BLOCK);
  const exprs = new ExprEmitter(k, kernel, buffers, site.alignments);
  for (const axis of plan.form.axes) if (axis.extent === 1) exprs.bindAxis(axis, { offset: 0 });
  const blocks = column && { name: column.name, extent: column.extent / columns };
  const threads = (outputsOf(plan) * channel.extent) / (lanes * columns);
  const flat = k.op('mad.lo.u32', k.special('ctaid.x'), BLOCK, k.special('tid.x'));
  const run = (): void =>
    exprs.withLanes(lanes, () => {
      bindPoint(k, exprs, [...outer, ...(blocks ? [blocks] : []), channel], flat, lanes);
      const place = blocks && exprs.scalar({ kind: 'axis', dtype: 'i32', name: blocks.name });
      const bindColumn = (i: number): void => {
        if (column && place) exprs.bindAxis(column, { reg: place, scale: columns, offset: i });
      };
      const sums = Array.from({ length: columns }, () => Array.from({ length: lanes }, () => zero(k)));
      addTaps(k, exprs, kernel, plan.taps, (product) => {
        for (let i = 0; i < columns; i++) {
          bindColumn(i);
          const value = exprs.value(product);
          for (const [lane, sum] of sums[i].entries()) k.to(sum, 'add.f32', sum, value[value.length === 1 ? 0 : lane]);
        }
      });
      for (let i = 0; i < columns; i++) {
        bindColumn(i);
        exprs.bindLocal('acc', sums[i]);
        new BodyEmitter(k, kernel, exprs).body(kernel.body.slice(1));
      }
    });
  if (threads % BLOCK === 0) run();
  else k.if(k.op('setp.lt.u32', flat, threads), run);
  const grid = [Math.ceil(threads / BLOCK), 1, 1] as const;
  return { launches: [{ code: k, grid, block: [BLOCK, 1, 1], args: bufferArgs(site.kernel) }], scratchBytes: 0 };
}

function zero(k: PtxKernel): Reg {
  const reg = k.reg('f32');
  k.move(reg, 0);
  return reg;
}

/** Calls `add` with the product at every tap: rows as loops where there are many, the taps of a row one by one. */
function addTaps(
  k: PtxKernel,
  exprs: ExprEmitter,
  kernel: Kernel,
  taps: readonly Axis[],
  add: (product: Expr) => void,
): void {
  const [sum] = kernel.body;
  if (sum.kind !== 'reduce') throw new Bug('cuda-depthwise', `kernel ${kernel.name} has no sum`);
  const written = extentOf(taps) <= MOST_WRITTEN;
  const nest = ([axis, ...rest]: readonly Axis[]): void => {
    if (!axis) {
      add(sum.value);
      return;
    }
    if (written || rest.length === 0) {
      for (let i = 0; i < axis.extent; i++) {
        exprs.bindAxis(axis, { offset: i });
        nest(rest);
      }
      return;
    }
    k.loop(0, axis.extent, 1, (i) =>
      exprs.scope(() => {
        exprs.bindAxis(axis, { reg: k.op('mov.b32', i), offset: 0 });
        nest(rest);
      }),
    );
  };
  nest(taps);
}
