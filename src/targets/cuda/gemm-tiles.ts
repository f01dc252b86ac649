/**
 * Tiles of the tensor-core matrix product, and which of them a contract may use: everything legality asks, in one place.
 *
 * A block computes bm × bn of the output, its warps wm × wn of them; k runs in steps of 128 bytes through `stages` buffers in shared
 * memory; `split` blocks of a cluster share the k of a tile and add up through each other's shared memory.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { KernelFacts, Params } from '../target.ts';
import { canEmitEpilogue } from './gemm-epilogue.ts';
import { coefOf, extentOf, type GemmPlan, planGemm } from './gemm-plan.ts';

export interface Tile {
  readonly bm: number;
  readonly bn: number;
  /** Warps along m and n. */
  readonly wm: number;
  readonly wn: number;
}

export const TILES: readonly Tile[] = [
  { bm: 128, bn: 128, wm: 2, wn: 4 },
  { bm: 128, bn: 64, wm: 4, wn: 2 },
  { bm: 64, bn: 128, wm: 2, wn: 4 },
  { bm: 64, bn: 64, wm: 2, wn: 2 },
  { bm: 64, bn: 32, wm: 4, wn: 1 },
  { bm: 32, bn: 64, wm: 2, wn: 2 },
  { bm: 32, bn: 32, wm: 2, wn: 2 },
  { bm: 16, bn: 64, wm: 1, wn: 4 },
  { bm: 16, bn: 32, wm: 1, wn: 2 },
];
const STAGES = [2, 3, 4, 6, 8] as const;
const SPLITS = [1, 2, 4, 8] as const;

/** Bytes of k that one step takes: a line of shared memory, eight chunks of 16 bytes. */
export const STEP_BYTES = 128;
export const CHUNK_BYTES = 16;

/** Longest k that is gathered: the table in the module grows with it. */
const MOST_GATHERED = 1024;
/** Guards that an entry of the table has room for. */
export const MOST_GATHER_GUARDS = 3;

export type BKind =
  /** Constant, arranged by us: rows of k for each column, padded to whole steps. */
  | 'packed'
  /** Where it lies: k contiguous. */
  | 'rows'
  /** Where it lies: columns contiguous. */
  | 'columns';

export type AKind =
  /** 16 bytes of k lie side by side, aligned. */
  | 'chunks'
  /** Element by element. */
  | 'gathered';

/** What the emitter needs to know beside the plan and the tile. */
export interface GemmShape {
  readonly plan: GemmPlan;
  readonly dtype: DType;
  readonly elementBytes: number;
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Steps of k, the last perhaps partly beyond k. */
  readonly steps: number;
  readonly a: AKind;
  readonly b: BKind;
}

/** Undefined where the tensor cores cannot run the contract as it lies in memory. */
export function gemmShape(kernel: Kernel, facts: KernelFacts): GemmShape | undefined {
  const plan = planGemm(kernel);
  if (plan?.form.acc !== 'f32') return undefined;
  const dtypeOf = (name: string): DType | undefined => kernel.buffers.find((x) => x.name === name)?.dtype;
  const dtype = dtypeOf(plan.a.buffer);
  if (dtype === undefined || dtypeOf(plan.b.buffer) !== dtype) return undefined;
  if (dtype !== 'f16' && dtype !== 'bf16' && !(dtype === 'f32' && facts.tf32)) return undefined;
  const axes = new Set(plan.form.axes.map((a) => a.name));
  if (plan.form.axes.filter((a) => a.role === 'n' && a.extent > 1).length > 1) return undefined;
  if (!canEmitEpilogue(plan.form.epilogue, axes)) return undefined;
  const elementBytes = DTYPES[dtype].bytes;
  const chunk = CHUNK_BYTES / elementBytes;
  const k = extentOf(plan.k);
  const shape = {
    plan,
    dtype,
    elementBytes,
    batch: extentOf(plan.batch),
    m: extentOf(plan.m),
    n: extentOf(plan.n),
    k,
    steps: Math.ceil((k * elementBytes) / STEP_BYTES),
  };
  if (shape.batch > 65535 || kernel.buffers.some((x) => x.elements >= 2 ** 31)) return undefined;
  const a = !facts.unaligned?.has(plan.a.buffer) && aIsChunked(plan, chunk) ? 'chunks' : 'gathered';
  if (a === 'gathered' && (k > MOST_GATHERED || plan.a.guards.length > MOST_GATHER_GUARDS)) return undefined;
  const b = bKind(plan, facts, chunk, dtype);
  return b && { ...shape, a, b };
}

/** Every chunk of a's innermost k is 16 bytes in a row, aligned, and wholly inside or outside a guard. */
function aIsChunked(plan: GemmPlan, chunk: number): boolean {
  const inner = plan.k.at(-1);
  if (!inner || inner.extent % chunk !== 0 || coefOf(plan.a, inner.name) !== 1) return false;
  if (plan.a.guards.some((g) => coefOf(g, inner.name) !== 0)) return false;
  const others = [...plan.batch, ...plan.m, ...plan.k.slice(0, -1)];
  return plan.a.constant % chunk === 0 && others.every((x) => coefOf(plan.a, x.name) % chunk === 0);
}

function bKind(plan: GemmPlan, facts: KernelFacts, chunk: number, dtype: DType): BKind | undefined {
  if (facts.constant.has(plan.b.buffer)) return 'packed';
  if (facts.unaligned?.has(plan.b.buffer)) return undefined;
  if (plan.k.length !== 1 || plan.b.constant % chunk !== 0) return undefined;
  const n = plan.n[0]?.name ?? '';
  const k = plan.k[0].name;
  if (plan.batch.some((x) => coefOf(plan.b, x.name) % chunk !== 0)) return undefined;
  if (coefOf(plan.b, k) === 1 && coefOf(plan.b, n) % chunk === 0) return 'rows';
  // Fragments of columns are transposed by ldmatrix, which knows 16-bit elements only.
  const columns = dtype !== 'f32' && coefOf(plan.b, n) === 1 && coefOf(plan.b, k) % chunk === 0;
  return columns && (plan.n[0]?.extent ?? 1) % chunk === 0 ? 'columns' : undefined;
}

export interface TileParams extends Tile {
  readonly stages: number;
  readonly split: number;
}
export const tileOf = (p: Params): TileParams => ({
  bm: p.bm,
  bn: p.bn,
  wm: p.wm,
  wn: p.wn,
  stages: p.stages,
  split: p.split,
});

export const stageBytes = (t: Tile): number => (t.bm + t.bn) * STEP_BYTES;
/** Pitch of a row of sums in shared memory: 32 bytes more than a line, so that a warp's stores meet different banks. */
export const sumPitch = (t: Tile): number => t.bn * 4 + 32;
export const sharedBytes = (t: TileParams): number => Math.max(stageBytes(t) * t.stages, t.bm * sumPitch(t));

/** Legal parameter rows. */
export function tileRows(
  shape: GemmShape,
  chip: { readonly sharedBytesPerBlock: number; readonly clusters: boolean },
): TileParams[] {
  const rows: TileParams[] = [];
  for (const tile of TILES) {
    if (shape.b === 'columns' && tile.bn < 64) continue;
    // A gathering warp has 32 rows.
    if (shape.a === 'gathered' && tile.bm < 32) continue;
    for (const split of SPLITS) {
      if (split > 1 && (!chip.clusters || shape.steps < 2 * split || tile.bm % split !== 0)) continue;
      const steps = Math.ceil(shape.steps / split);
      for (const stages of STAGES) {
        // More buffers than steps are never filled; with two, every step waits for its copies.
        if (stages > 2 ? stages > steps + 1 : steps > 2) continue;
        const row = { ...tile, stages, split };
        if (sharedBytes(row) <= chip.sharedBytesPerBlock) rows.push(row);
      }
    }
  }
  return rows;
}
