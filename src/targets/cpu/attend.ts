/**
 * The template `attend`: attention over register tiles, keys in blocks that stay in cache. attend-emit.ts writes it.
 *
 * Cost: the multiply-adds of both products, full tiles or not; an exponential and what goes with it a score; packing the keys; the code
 * around a group of rows. Keys, values and queries come from memory once.
 */
import { Bug } from '../../core/errors.ts';
import { touchedBytes } from '../../loop/footprint.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import { AttendEmitter } from './attend-emit.ts';
import { type AttendPlan, blockAttend, planAttend } from './attend-plan.ts';
import { extentOf } from './contract-plan.ts';
import { tilesFor } from './contract-templates.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, vectorMachine } from './vector-machine.ts';

/** Keys in a block, where there are more: what of keys, values and scores is looked at again stays in the second-level cache. */
const KEYS = [512, 2048];

/** For threads to share out evenly. */
const ENOUGH_CALLS = 8;
/** For fewer queries keys are not worth packing. */
const LEAST_ROWS = 12;

function planOf(kernel: Kernel): AttendPlan {
  const plan = planAttend(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} has no plan as attention`);
  return plan;
}

export const attend: CpuTemplate = {
  name: 'attend',
  form: 'attend',
  candidates: (kernel, _, features) => {
    const plan = planAttend(kernel);
    if (!plan || plan.rows.extent < LEAST_ROWS) return [];
    const { key, value } = plan;
    const keys = KEYS.filter((_, i) => i === 0 || key.extent > KEYS[i - 1]);
    return tilesFor(features)
      .filter(({ lanes }) => value.extent % lanes === 0)
      .flatMap((tile) => keys.map((n) => ({ ...tile, keys: n })));
  },
  predictNs,
  tiles: (kernel, params) => blockAttend(planOf(kernel), params).tiles,
  // Tiles of a head pack its keys once a call, but there must be calls for several threads.
  grain: (kernel, params) => {
    const plan = planOf(kernel);
    const { keyBlocks, rowBlocks, tiles } = blockAttend(plan, params);
    const ofHead = keyBlocks === 1 ? rowBlocks * extentOf(plan.sharing) : 1;
    return Math.min(ofHead, Math.max(1, Math.floor(tiles / ENOUGH_CALLS)));
  },
  scratchBytes: (kernel, params) => blockAttend(planOf(kernel), params).scratchBytes,
  emit: (asm, kernel, params) => {
    checkLanes(asm, params.lanes);
    new AttendEmitter(asm, kernel, planOf(kernel), params).run();
  },
};

const NS_PER_CYCLE = 0.3;
const FMA_LATENCY = 4;
const BYTES_PER_NS = 10;
const STEP_CYCLES = 0.2;
const ROW_CYCLES = 0.1;
const TILE_CYCLES = 24;
/** Of a vector of scores: its maximum, its exponential, its sum. */
const WEIGHT_CYCLES = 12;
/** Of a row and a block: two reductions over lanes, the loops. */
const STATE_CYCLES = 60;
const GATHER_CYCLES = 1.2;
/** Of a score that shares its vector with none. */
const LANE_CYCLES = 8;

function predictNs(kernel: Kernel, params: Params): number {
  const plan = planOf(kernel);
  const { lanes, rows, width } = params;
  const { rowBlocks, keyBlocks } = blockAttend(plan, params);
  const { multiplyAdds, loads } = vectorMachine(lanes);
  const [m, t] = [plan.rows.extent, plan.key.extent];
  const tile = (r: number, columns: number, steps: number): number => {
    const vectors = Math.ceil(columns / lanes);
    const bound = Math.max((r * vectors) / multiplyAdds, (r + vectors) / loads, FMA_LATENCY);
    return steps * (bound + STEP_CYCLES + r * ROW_CYCLES) + TILE_CYCLES + r * vectors * 2;
  };
  const panels = (r: number, columns: number, steps: number): number => {
    const tail = columns % width;
    return Math.floor(columns / width) * tile(r, width, steps) + (tail > 0 ? tile(r, tail, steps) : 0);
  };
  const partial = plan.loadsByKey ? t % lanes : 0;
  const group = (r: number): number =>
    panels(r, t, plan.inner.extent) +
    panels(r, plan.value.extent, t) +
    r * (Math.ceil(t / lanes) * WEIGHT_CYCLES + keyBlocks * STATE_CYCLES + partial * LANE_CYCLES);
  const outer = extentOf(plan.heads) * extentOf(plan.sharing);
  const packed = t * plan.inner.extent * (keyBlocks === 1 ? 1 : rowBlocks);
  const pack = packed * (plan.keyStride === 1 ? 2 / lanes : GATHER_CYCLES);
  const cycles = outer * (Math.floor(m / rows) * group(rows) + (m % rows > 0 ? group(m % rows) : 0) + pack);
  const bytes = touchedBytes(kernel);
  return Math.max(cycles * NS_PER_CYCLE, bytes / BYTES_PER_NS);
}
