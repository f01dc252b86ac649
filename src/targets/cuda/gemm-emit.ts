/**
 * PTX of the tensor-core matrix product: one entry that computes bm × bn tiles of a contract.
 *
 *     a, b ─cp.async, 16 bytes a thread→ shared memory, `stages` deep ─ldmatrix→ fragments ─mma.sync→ sums in registers
 *     sums → shared memory → (of all blocks of the cluster, where they split k) → epilogue, 8 columns a thread → out
 *
 * Shared memory of a stage: rows of a, then of b, 128 bytes each, chunk c of row r at place c xor (r mod 8), so that neither the
 * copies nor ldmatrix meet in a bank ("columns": rows of k, the same with the chunks of a row of columns). Weights do not depend on the
 * kernel before, so their first stages are asked for before it is waited for.
 */
import { beginGemm, type GemmSite } from './gemm-context.ts';
import { prepareOutputs } from './gemm-outputs.ts';
import { multiply, type Sums } from './gemm-products.ts';
import type { GemmShape, TileParams } from './gemm-tiles.ts';
import { multiplyByWarpgroups } from './gemm-warpgroups.ts';
import type { PtxText } from './ptx-text.ts';

export interface EmittedGemm {
  readonly code: PtxText;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly cluster: readonly [number, number, number] | undefined;
}

export function emitGemm(site: GemmSite, shape: GemmShape, tile: TileParams): EmittedGemm {
  const g = beginGemm(site, shape, tile);
  let finish = (_: Sums): void => undefined;
  const sums = (tile.wgmma ? multiplyByWarpgroups : multiply)(g, () => {
    finish = prepareOutputs(g);
  });
  finish(sums);
  const { m, n, batch } = shape;
  const { bm, bn, split } = tile;
  return {
    code: g.w,
    grid: [Math.ceil(m / bm) * Math.ceil(n / bn) * split, batch, 1],
    block: [g.threads, 1, 1],
    cluster: split > 1 ? [split, 1, 1] : undefined,
  };
}
