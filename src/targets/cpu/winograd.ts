/**
 * The template `winograd`: F(tile×tile, 3×3) for convolutions with windows of 3×3, stride 1 or 2, and constant weights.
 *
 * Its products are a quarter (tile 4, stride 1; 9/16 with stride 2) of direct convolution's, but its weights are up to nine times as large, its transforms cost the same
 * for few channels as for many, and tiles overhang small outputs: the cost model weighs these.
 */
import { Bug } from '../../core/errors.ts';
import type { WinogradPacking } from '../../engine/engine.ts';
import * as e from '../../loop/expr.ts';
import { touchedBytes } from '../../loop/footprint.ts';
import type { Kernel, Stmt } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import { rowsFor } from './contract-blocking.ts';
import { tilesFor } from './contract-templates.ts';
import { laneScore } from './lanes.ts';
import { ExprTable } from './linear.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, vectorMachine } from './vector-machine.ts';
import { WinogradEmitter } from './winograd-emit.ts';
import { pointsOf } from './winograd-matrices.ts';
import { blockWinograd, planWinograd, summedOf, type WinogradPlan } from './winograd-plan.ts';

/** Sizes of tiles by stride, and the largest error of an output in units of the outputs' root mean square (tests/winograd.test.ts). */
export const WINOGRAD_TILES = [
  { step: 1, tile: 2, error: 4e-6 },
  { step: 1, tile: 4, error: 1e-5 },
  { step: 1, tile: 6, error: 8e-5 },
  { step: 2, tile: 2, error: 4e-6 },
  { step: 2, tile: 4, error: 1e-5 },
] as const;
/** What a direct sum in f32 may err, and networks are tested to: F(6×6, 3×3) is beyond it. */
const MOST_ERROR = 1e-5;
const OFFERED = WINOGRAD_TILES.filter(({ error }) => error <= MOST_ERROR);

function planOf(kernel: Kernel): WinogradPlan {
  const plan = planWinograd(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} is no convolution for Winograd's method`);
  return plan;
}

/** Whether the epilogue runs on vectors of n. */
function isInLanes(kernel: Kernel, { n, epilogue }: WinogradPlan): boolean {
  const facts = { table: new ExprTable(), buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
  const acc: Stmt = { kind: 'let', local: 'acc', dtype: 'f32', value: e.cast('f32', e.axis(n.name)) };
  return laneScore(facts, [acc, ...epilogue], n.name) !== undefined;
}

export const winograd: CpuTemplate = {
  name: 'winograd',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const plan = planWinograd(kernel);
    if (!plan || !facts.constant.has(plan.b.buffer) || !isInLanes(kernel, plan)) return [];
    return tilesFor(features)
      .filter(({ lanes }) => plan.channel.extent % lanes === 0 && plan.n.extent % lanes === 0)
      .flatMap((params) => OFFERED.filter(({ step }) => step === plan.step).map(({ tile }) => ({ ...params, tile })));
  },
  predictNs,
  tiles: (kernel, params) => {
    const { tBlocks, nBlocks } = blockWinograd(planOf(kernel), params);
    return tBlocks * nBlocks;
  },
  // Units of a block of tiles transform its inputs once a call.
  grain: (kernel, params) => blockWinograd(planOf(kernel), params).nBlocks,
  packing: (kernel, { tile, width }) => {
    const plan = planOf(kernel);
    const packing: WinogradPacking = {
      kind: 'winograd',
      tile,
      step: plan.step,
      width,
      k: summedOf(plan),
      n: plan.n.extent,
    };
    return new Map([[plan.b.buffer, packing]]);
  },
  scratchBytes: (kernel, params) => blockWinograd(planOf(kernel), params).scratchBytes,
  emit: (asm, kernel, params) => {
    checkLanes(asm, params.lanes);
    new WinogradEmitter(asm, kernel, planOf(kernel), params).run();
  },
};

const NS_PER_CYCLE = 0.3;
const FMA_LATENCY = 4;
/** Cycles to enter and leave a register tile. */
const TILE_CYCLES = 24;
const STEP_CYCLES = 0.2;
const ROW_CYCLES = 0.1;
/** Cycles a point to transform one vector of a tile, by stride: what of loads, stores and arithmetic of both passes stands out beside the products. */
const TRANSFORM_CYCLES: Readonly<Record<number, number>> = { 1: 2.5, 2: 9 };
/** From memory, and from the last cache, where weights are read once more for each further block of tiles. */
const BYTES_PER_NS = 10;
const CACHE_BYTES_PER_NS = 40;
/** What of the smaller one of arithmetic and traffic the larger one does not hide: more where weights cannot be asked for ahead, on 4 lanes. */
const OVERLAP_LOSS = 0.1;
const OVERLAP_LOSS_UNASKED = 0.6;
/** Threads that units should occupy evenly where there are so many, and what of the time that they do not is counted. */
const MANY_THREADS = 8;
const UNEVEN_LOSS = 0.1;

function predictNs(kernel: Kernel, params: Params): number {
  const plan = planOf(kernel);
  const { tile, width, lanes } = params;
  const { tiles, tBlocks, nBlocks } = blockWinograd(plan, params);
  const points = pointsOf(tile, plan.step) ** 2;
  const [channels, n] = [summedOf(plan), plan.n.extent];
  const { multiplyAdds, loadsFirst } = vectorMachine(lanes);
  const panelCycles = (columns: number): number => {
    const rows = rowsFor(columns, params);
    const vectors = columns / lanes;
    const product = (r: number): number => {
      const bound = Math.max((r * vectors) / multiplyAdds, (r + vectors) / 2, FMA_LATENCY);
      return channels * (bound + STEP_CYCLES + r * ROW_CYCLES) + TILE_CYCLES + r * vectors;
    };
    return points * (Math.floor(tiles / rows) * product(rows) + (tiles % rows === 0 ? 0 : product(tiles % rows)));
  };
  const tail = n % width;
  const products = Math.floor(n / width) * panelCycles(width) + (tail > 0 ? panelCycles(tail) : 0);
  const transforms = ((tiles * (channels + n)) / lanes) * points * TRANSFORM_CYCLES[plan.step];
  const weightBytes = points * channels * n * 4;
  const otherBytes = touchedBytes(kernel, (buffer) => buffer !== plan.b.buffer);
  const arithmetic = (products + transforms) * NS_PER_CYCLE;
  const traffic = (weightBytes + otherBytes) / BYTES_PER_NS + (weightBytes * (tBlocks - 1)) / CACHE_BYTES_PER_NS;
  const loss = loadsFirst ? OVERLAP_LOSS_UNASKED : OVERLAP_LOSS;
  const rounds = (tBlocks * nBlocks) / MANY_THREADS;
  const uneven = 1 + UNEVEN_LOSS * (Math.ceil(rounds) / rounds - 1);
  return uneven * (Math.max(arithmetic, traffic) + loss * Math.min(arithmetic, traffic));
}
