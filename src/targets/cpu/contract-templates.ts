/**
 * The matrix-product templates: `panels` for a constant b, packed; `direct` for a b that is contiguous along n where it lies;
 * `gathered` for any other, such as the keys of q·kᵀ.
 *
 * Cost: the multiply-adds of all register tiles, full or not, each k step bound by two arithmetic instructions and two loads a cycle
 * and by the latency of its accumulators; then what must come from memory.
 */
import { Bug } from '../../core/errors.ts';
import type { Packing } from '../../engine/engine.ts';
import { touchedBytes } from '../../loop/footprint.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import { blockContract, rowsFor, runAxis, zerosFor } from './contract-blocking.ts';
import { emitGemm } from './contract-gemm.ts';
import { type ContractPlan, extentOf, hasLimit, mayOverreach, planContract } from './contract-plan.ts';
import { ExprTable } from './linear.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, lanesOf, vectorMachine } from './vector-machine.ts';

const NS_PER_CYCLE = 0.3;
const FMA_LATENCY = 4;
const BYTES_PER_NS = 10;
/** Cycles to enter and leave a register tile, and to start a run of k. */
const TILE_CYCLES = 24;
/** What the loop of a k step costs, and the splat and pointer of a row, beyond what hides behind the arithmetic. */
const STEP_CYCLES = 0.2;
const ROW_CYCLES = 0.1;
/** Panels that do not stay in the second-level cache beside a block of a cost what of their streaming does not hide; slow streams hide. */
const RESIDENT_BYTES = 128 * 1024;
const STREAM_BYTES_PER_CYCLE = 112;
const HIDDEN_BYTES_PER_CYCLE = 12;
/** What of the smaller one of arithmetic and traffic the larger one does not hide. */
const OVERLAP_LOSS = 0.1;
const RUN_CYCLES = 10;
/** The epilogue of an element that shares its vector with none. */
const LANE_CYCLES = 4;

/** Register tiles by lanes: rows, and columns of a panel. */
const TILES: readonly Params[] = [
  { lanes: 4, rows: 2, width: 16 },
  { lanes: 4, rows: 3, width: 12 },
  { lanes: 4, rows: 4, width: 8 },
  { lanes: 8, rows: 6, width: 16 },
  { lanes: 8, rows: 4, width: 24 },
  { lanes: 16, rows: 6, width: 64 },
  { lanes: 16, rows: 8, width: 48 },
  { lanes: 16, rows: 12, width: 32 },
];
export const tilesFor = (features: readonly string[]): readonly Params[] => {
  const lanes = lanesOf(features);
  return TILES.filter((t) => lanes.includes(t.lanes));
};

function planOf(kernel: Kernel): ContractPlan {
  const plan = planContract(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} has no plan as a contract`);
  return plan;
}

/** Tiles of whole columns reach over a limit. */
const takesLimits = (plan: ContractPlan): boolean => !hasLimit(plan.n) || mayOverreach(plan);

function predictNs(kernel: Kernel, params: Params): number {
  const plan = planOf(kernel);
  const m = extentOf(plan.m);
  const n = extentOf(plan.n);
  const k = extentOf(plan.k);
  const run = runAxis(plan)?.extent ?? 1;
  const streams = k * params.width * 4 > RESIDENT_BYTES;
  const { multiplyAdds, loads } = vectorMachine(params.lanes);
  const panelCycles = (columns: number): number => {
    const rows = rowsFor(columns, params);
    const vectors = Math.ceil(columns / params.lanes);
    const partial = columns % params.lanes;
    const tile = (r: number): number => {
      const bound = Math.max((r * vectors) / multiplyAdds, (r + vectors) / loads, FMA_LATENCY);
      const isHidden = !streams || columns * 4 <= bound * HIDDEN_BYTES_PER_CYCLE;
      const step = bound + STEP_CYCLES + r * ROW_CYCLES + (isHidden ? 0 : (columns * 4) / STREAM_BYTES_PER_CYCLE);
      return (
        k * step +
        (k / run) * (RUN_CYCLES + (plan.a.guard ? 4 * r : 0)) +
        TILE_CYCLES +
        r * vectors * 2 +
        r * partial * LANE_CYCLES
      );
    };
    return Math.floor(m / rows) * tile(rows) + (m % rows === 0 ? 0 : tile(m % rows));
  };
  const full = Math.floor(n / params.width);
  const tail = n - full * params.width;
  const cycles = full * panelCycles(params.width) + (tail > 0 ? panelCycles(tail) : 0);
  const bytes = touchedBytes(kernel);
  const [arithmetic, traffic] = [extentOf(plan.batch) * cycles * NS_PER_CYCLE, bytes / BYTES_PER_NS];
  return Math.max(arithmetic, traffic) + OVERLAP_LOSS * Math.min(arithmetic, traffic);
}

const tiles = (kernel: Kernel, params: Params): number => blockContract(planOf(kernel), params).tiles;

export const panels: CpuTemplate = {
  name: 'panels',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const plan = planContract(kernel);
    if (plan?.n.length !== 1 || !facts.constant.has(plan.b.buffer) || !takesLimits(plan)) return [];
    // Packed panels follow each other as many rows of k apart as there are at most.
    return hasLimit(plan.k) ? [] : tilesFor(features);
  },
  predictNs,
  tiles,
  packing: (kernel, { width }) => {
    const plan = planOf(kernel);
    const packing: Packing = {
      kind: 'panels',
      width,
      batch: extentOf(plan.batch),
      k: extentOf(plan.k),
      n: extentOf(plan.n),
      zeros: plan.a.guard ? zerosFor(plan) : 0,
    };
    return new Map([[plan.b.buffer, packing]]);
  },
  emit: (asm, kernel, params) => {
    const plan = planOf(kernel);
    checkLanes(asm, params.lanes);
    emitGemm(asm, kernel, plan, params, { kind: 'packed' });
  },
};

export const direct: CpuTemplate = {
  name: 'direct',
  form: 'contract',
  candidates: (kernel, _, features) => {
    const plan = planContract(kernel);
    if (plan?.n.length !== 1 || plan.a.guard || !takesLimits(plan)) return [];
    return new ExprTable().strideAlong(plan.b.index, plan.n[0].name) === 1 ? tilesFor(features) : [];
  },
  predictNs: (kernel, params) => predictNs(kernel, params) * 1.1,
  tiles,
  emit: (asm, kernel, params) => {
    const plan = planOf(kernel);
    checkLanes(asm, params.lanes);
    emitGemm(asm, kernel, plan, params, { kind: 'direct' });
  },
};

/** Cycles to move one element of b into its panel. */
const GATHER_CYCLES = 1.2;

export const gathered: CpuTemplate = {
  name: 'gathered',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const plan = planContract(kernel);
    if (plan?.n.length !== 1 || plan.k.length !== 1 || plan.a.guard || facts.constant.has(plan.b.buffer)) return [];
    if (!takesLimits(plan) || hasLimit(plan.k)) return [];
    const [along, across] = [plan.k[0], plan.n[0]].map(({ name }) => new ExprTable().strideAlong(plan.b.index, name));
    return along !== undefined && across !== 1 ? tilesFor(features) : [];
  },
  predictNs: (kernel, params) => {
    const plan = planOf(kernel);
    const { mBlocks } = blockContract(plan, params);
    const elements = extentOf(plan.batch) * extentOf(plan.n) * extentOf(plan.k) * mBlocks;
    return predictNs(kernel, params) + elements * GATHER_CYCLES * NS_PER_CYCLE;
  },
  tiles,
  scratchBytes: (kernel, { width }) => extentOf(planOf(kernel).k) * width * 4,
  emit: (asm, kernel, params) => {
    const plan = planOf(kernel);
    checkLanes(asm, params.lanes);
    const scratch = asm.params[asm.params.length - 1];
    emitGemm(asm, kernel, plan, params, { kind: 'gathered', scratch });
  },
};
