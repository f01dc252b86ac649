/**
 * How a matrix product is cut: register tiles, panels of columns, blocks of rows that stay in cache, tiles for threads.
 *
 * A block of rows is small enough that what it reads of a stays in the second-level cache while all panels pass over it. Where
 * that leaves too few tiles for threads, panels are shared out too, then smaller blocks of rows.
 */
import { DTYPES } from '../../core/dtype.ts';
import type { Axis } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { type ContractPlan, extentOf } from './contract-plan.ts';
import { ExprTable } from './linear.ts';
import { divideUp, partOf } from './present-tiles.ts';
import { vectorMachine } from './vector-machine.ts';

export interface Blocking {
  readonly width: number;
  /** Rows of the register tile for a panel of so many columns. */
  rowsOf(columns: number): number;
  readonly panels: number;
  /** Elements of all panels of one batch. */
  readonly panelElements: number;
  readonly mBlocks: number;
  readonly rowsInBlock: number;
  readonly nBlocks: number;
  readonly panelsInBlock: number;
  readonly tiles: number;
}

/** Rows in a block are a multiple of every register tile's, which divide this. */
const rowStep = ({ lanes }: Params): number => (lanes === 16 ? 24 : 12);
const DIVISORS = [24, 12, 8, 6, 4, 3, 2];
const BLOCK_BYTES = 192 * 1024;
const ENOUGH_TILES = 32;
/** Longest stretch of zeros that padded rows may read. */
export const MAX_ZEROS = 8192;

/**
 * Rows of the register tile for a panel of so many columns. A narrower last panel takes as many as its registers hold: accumulators,
 * b's vectors, and a's splats all or one at a time. They divide the row step.
 */
export function rowsFor(columns: number, params: Params): number {
  if (columns === params.width) return params.rows;
  const vectors = Math.ceil(columns / params.lanes);
  const fits = params.vnni === undefined ? floatRows(vectors, params) : byteRows(vectors, params);
  const step = rowStep(params);
  return DIVISORS.find((rows) => rows <= fits && step % rows === 0) ?? 1;
}

/** Of bytes that a step takes without VNNI. */
const PAIRS = 4;

function floatRows(vectors: number, params: Params): number {
  const { registers, loadsFirst } = vectorMachine(params.lanes);
  return loadsFirst ? (registers - vectors) / (vectors + 1) : (registers - vectors - 1) / vectors;
}

/** Beside the accumulators: b's vectors, what a product goes by, and the sign's bits of a; without VNNI, the pairs of all rows. */
function byteRows(vectors: number, { lanes, vnni }: Params): number {
  const { registers, loadsFirst } = vectorMachine(lanes);
  if (vnni !== 0) return (registers - vectors - 2) / vectors;
  return (registers - (loadsFirst ? PAIRS * vectors : vectors + 2)) / (vectors + 1);
}

/** The hot loop's axis: the innermost, unless padding cuts it or the zeros for it would be long. */
export function runAxis(plan: ContractPlan): Axis | undefined {
  const last = plan.k.at(-1);
  if (!last || !plan.a.guard) return last;
  const table = new ExprTable();
  const stride = table.strideAlong(plan.a.index, last.name) ?? 0;
  const isCut = table.info(plan.a.guard).free.includes(last.name);
  return isCut || stride < 0 || stride * last.extent > MAX_ZEROS ? undefined : last;
}

/** Zeros that rows outside read in one run of k. */
export function zerosFor(plan: ContractPlan): number {
  if (!plan.a.guard) return 0;
  const run = runAxis(plan);
  if (!run) return 1;
  const stride = new ExprTable().strideAlong(plan.a.index, run.name) ?? 0;
  return (run.extent - 1) * stride + 1;
}

/** What the cut of a product at run time and beforehand share. */
interface Cut {
  readonly step: number;
  /** Rows of a that stay in the cache. */
  readonly inCache: number;
  /** Fewer rows are no block. */
  readonly leastRows: number;
}

function cutOf(plan: ContractPlan, params: Params): Cut {
  const taps = plan.a.guard ? extentOf(plan.k.slice(0, -1)) : 1;
  const rowBytes = (extentOf(plan.k) / taps) * DTYPES[plan.a.dtype].bytes;
  const step = rowStep(params);
  return { step, inCache: Math.max(step, Math.floor(BLOCK_BYTES / rowBytes)), leastRows: Math.max(24, step) };
}

/** A blocking whose numbers are in registers. */
export interface PresentBlocking {
  readonly rowsInBlock: Reg;
  readonly mBlocks: Reg;
  readonly panelsInBlock: Reg;
  readonly nBlocks: Reg;
  readonly tiles: Reg;
}

/** As `blockContract` for the sizes that there are at run time: rows, panels and batches, of which the first may be 0. */
export function blockPresent(
  asm: Asm,
  plan: ContractPlan,
  params: Params,
  { rows, panels, batches }: { readonly rows: Reg; readonly panels: Reg; readonly batches: Reg },
): PresentBlocking {
  const { step, inCache, leastRows } = cutOf(plan, params);
  const one = asm.const('i32', 1);
  const enough = asm.const('i32', ENOUGH_TILES);
  const some = asm.op('max', [rows, one]);
  const perBlock = asm.op('max', [asm.op('mul', [batches, panels]), one]);
  const wanted = asm.op('min', [divideUp(asm, enough, perBlock), divideUp(asm, some, leastRows)]);
  const rowsInBlock = partOf(asm, some, asm.op('max', [divideUp(asm, some, inCache), wanted]), step);
  const mBlocks = divideUp(asm, some, rowsInBlock);
  const perPanel = asm.op('max', [asm.op('mul', [batches, mBlocks]), one]);
  const wantedN = asm.op('max', [asm.op('min', [panels, divideUp(asm, enough, perPanel)]), one]);
  const panelsInBlock = asm.op('max', [divideUp(asm, panels, wantedN), one]);
  const nBlocks = divideUp(asm, panels, panelsInBlock);
  const tiles = asm.op('mul', [asm.op('mul', [batches, mBlocks]), nBlocks]);
  return { rowsInBlock, mBlocks, panelsInBlock, nBlocks, tiles };
}

export function blockContract(plan: ContractPlan, params: Params): Blocking {
  const m = extentOf(plan.m);
  const n = extentOf(plan.n);
  const k = extentOf(plan.k);
  const { width } = params;
  const panels = Math.ceil(n / width);
  const { step, inCache, leastRows } = cutOf(plan, params);
  let mBlocks = Math.ceil(m / inCache);
  const batches = extentOf(plan.batch);
  if (batches * mBlocks * panels < ENOUGH_TILES) {
    const wanted = Math.ceil(ENOUGH_TILES / (batches * panels));
    mBlocks = Math.max(mBlocks, Math.min(wanted, Math.ceil(m / leastRows)));
  }
  const rowsInBlock = Math.ceil(Math.ceil(m / mBlocks) / step) * step;
  mBlocks = Math.ceil(m / rowsInBlock);
  const wantedN = Math.min(panels, Math.ceil(ENOUGH_TILES / (batches * mBlocks)));
  const panelsInBlock = Math.ceil(panels / wantedN);
  const nBlocks = Math.ceil(panels / panelsInBlock);
  return {
    width,
    rowsOf: (columns) => rowsFor(columns, params),
    panels,
    panelElements: panels * k * width,
    mBlocks,
    rowsInBlock,
    nBlocks,
    panelsInBlock,
    tiles: batches * mBlocks * nBlocks,
  };
}
