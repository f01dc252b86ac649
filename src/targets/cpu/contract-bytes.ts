/**
 * The matrix-product template for bytes: a of u8 or i8, b a constant of i8, sums in i32, exact. `vnni` says which instructions its dot
 * products take; 0: none but those that every machine of that many lanes has.
 *
 * It applies where k's hot loop runs along contiguous bytes of a and is long enough for a group of them.
 */
import { Bug } from '../../core/errors.ts';
import type { BytesPacking } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import { blockContract, rowsFor, runAxis, zerosFor } from './contract-blocking.ts';
import { emitGemm } from './contract-gemm.ts';
import { type ContractPlan, extentOf, hasLimit, mayOverreach, planBytes } from './contract-plan.ts';
import { ExprTable } from './linear.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, lanesOf, vectorMachine, vnniFor } from './vector-machine.ts';

/** Register tiles by lanes, with dot products of bytes and without: rows, and columns of a panel. */
const TILES: readonly Omit<Params & { readonly lanes: number }, 'vnni'>[] = [
  { lanes: 16, rows: 24, width: 16 },
  { lanes: 16, rows: 12, width: 32 },
  { lanes: 16, rows: 8, width: 48 },
  { lanes: 16, rows: 6, width: 64 },
  { lanes: 8, rows: 12, width: 8 },
  { lanes: 8, rows: 6, width: 16 },
];
const PAIR_TILES: typeof TILES = [
  { lanes: 8, rows: 6, width: 8 },
  { lanes: 8, rows: 4, width: 16 },
  { lanes: 4, rows: 4, width: 4 },
  { lanes: 4, rows: 2, width: 8 },
];

const NS_PER_CYCLE = 0.3;
const LATENCY = 5;
const BYTES_PER_NS = 10;
/** To enter and leave a register tile, and to start a run of k. */
const TILE_CYCLES = 24;
const RUN_CYCLES = 10;
/** The epilogue of a vector: it converts, scales, rounds, clips and narrows. */
const VECTOR_CYCLES = 4;
/** The epilogue of an element that shares its vector with none. */
const LANE_CYCLES = 6;
/** Instructions a cycle of what pairs take beside the products: widening and spreading. */
const PAIR_RATE = 3.5;

function tilesFor(features: readonly string[]): Params[] {
  const rows = lanesOf(features).flatMap((lanes): Params[] => {
    const vnni = vnniFor(lanes, features);
    return (vnni === 0 ? PAIR_TILES : TILES).filter((t) => t.lanes === lanes).map((t) => ({ ...t, vnni }));
  });
  return rows;
}

const stepOf = ({ vnni }: Params): number => (vnni === 0 ? 8 : 4);

function planOf(kernel: Kernel): ContractPlan {
  const plan = planBytes(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} has no plan as a contract of bytes`);
  return plan;
}

function packingOf(plan: ContractPlan, params: Params): BytesPacking {
  const run = runAxis(plan)?.extent ?? 1;
  return {
    kind: 'bytes',
    width: params.width,
    batch: extentOf(plan.batch),
    outer: extentOf(plan.k) / run,
    run,
    n: extentOf(plan.n),
    step: stepOf(params),
    starts: params.vnni !== 0 && plan.a.dtype === 'i8',
    zeros: plan.a.guard ? zerosFor(plan) : 0,
  };
}

export const bytes: CpuTemplate = {
  name: 'bytes',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const plan = planBytes(kernel);
    if (plan?.n.length !== 1 || !facts.constant.has(plan.b.buffer) || hasLimit(plan.k)) return [];
    if ((hasLimit(plan.m) || hasLimit(plan.n)) && !mayOverreach(plan)) return [];
    const run = runAxis(plan);
    if (!run || new ExprTable().strideAlong(plan.a.index, run.name) !== 1) return [];
    return tilesFor(features).filter((params) => run.extent >= stepOf(params));
  },
  predictNs: (kernel, params) => {
    const plan = planOf(kernel);
    const [m, n] = [extentOf(plan.m), extentOf(plan.n)];
    const { run, outer, step } = packingOf(plan, params);
    const groups = outer * Math.ceil(run / step);
    const panelCycles = (columns: number): number => {
      const rows = rowsFor(columns, params);
      const vectors = Math.ceil(columns / params.lanes);
      const partial = columns % params.lanes;
      const tile = (r: number): number =>
        groups * groupCycles(r, vectors, params) +
        outer * (RUN_CYCLES + (plan.a.guard ? 4 * r : 0)) +
        TILE_CYCLES +
        r * (partial === 0 ? vectors * VECTOR_CYCLES : (vectors - 1) * VECTOR_CYCLES + partial * LANE_CYCLES);
      return Math.floor(m / rows) * tile(rows) + (m % rows === 0 ? 0 : tile(m % rows));
    };
    const full = Math.floor(n / params.width);
    const tail = n - full * params.width;
    const cycles = full * panelCycles(params.width) + (tail > 0 ? panelCycles(tail) : 0);
    const moved = kernel.buffers.reduce((sum, b) => sum + b.elements, 0);
    return Math.max(extentOf(plan.batch) * cycles * NS_PER_CYCLE, moved / BYTES_PER_NS);
  },
  tiles: (kernel, params) => blockContract(planOf(kernel), params).tiles,
  packing: (kernel, params) => {
    const plan = planOf(kernel);
    return new Map([[plan.b.buffer, packingOf(plan, params)]]);
  },
  emit: (asm, kernel, params) => {
    const plan = planOf(kernel);
    checkLanes(asm, params.lanes);
    const dot = { packing: packingOf(plan, params), signed: plan.a.dtype === 'i8' };
    emitGemm(asm, kernel, plan, params, { kind: 'bytes', dot });
  },
};

/** One group of bytes of k against a register tile. */
function groupCycles(rows: number, vectors: number, { lanes, vnni }: Params): number {
  const { multiplyAdds, loads } = vectorMachine(lanes);
  if (vnni !== 0) return Math.max((rows * vectors) / multiplyAdds, (rows + vectors) / loads, LATENCY) + 0.1 * rows;
  const products = 4 * rows * vectors;
  return Math.max(products / multiplyAdds, (2 * products + 6 * rows + 4 * vectors) / PAIR_RATE);
}
