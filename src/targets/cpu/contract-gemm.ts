/**
 * Contracts as matrix products: register tiles of `rows` × `vectors` accumulators, b in panels of `width` columns.
 *
 *     for panel of n:  for tile of m:  acc = 0
 *                                      for outer k (taps of a window …):  row pointers, or zeros where a row is outside
 *                                        for run of k:  acc[r][v] += a[row r][k] · b[panel][k][v]
 *                                      epilogue(acc)
 *
 * Here are the loops around the tiles; `contract-tile.ts` is what one of them does. b is a packed constant (`panels`), any operand that is
 * contiguous along n (`direct`), or any other (`gathered`).
 *
 * Where an axis has a limit: panels behind it are skipped, and a tile may reach over the limit of n as far as the extent: nobody reads
 * what it stores there. Rows are counted and cut into blocks without what lies behind a limit, and the last few of a block are done by ever
 * smaller tiles. The layered loops follow Goto and van de Geijn (2008), the window view implicit GEMM.
 */

import { packedPanelBytes } from '../../engine/engine.ts';
import * as e from '../../loop/expr.ts';
import type { Axis, Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { type Blocking, blockContract, blockPresent, type PresentBlocking } from './contract-blocking.ts';
import { type ContractPlan, conjuncts, extentOf, hasLimit } from './contract-plan.ts';
import { type PanelSource, type Repeated, type Rows, TileEmitter, type TileShape } from './contract-tile.ts';
import { ExprEmitter } from './emit-expr.ts';
import { gatherPanel } from './gather-panel.ts';
import { coordinates, divideUp, presentRange, type TileRange } from './present-tiles.ts';
import type { Scopes } from './scopes.ts';
import { eachExpr } from './walk.ts';

export function emitGemm(asm: Asm, kernel: Kernel, plan: ContractPlan, params: Params, source: PanelSource): void {
  new GemmEmitter(asm, kernel, plan, params, source).run();
}

/** Rows computed twice are at most one in so many; for fewer, code for a smaller tile is spared. */
const OVERLAP_PART = 32;

/** The tiles of a call, and how they are numbered; 1 where that is known. */
interface Share extends TileRange, Pick<PresentBlocking, 'rowsInBlock' | 'panelsInBlock'> {
  readonly mBlocks: Reg | 1;
  readonly nBlocks: Reg | 1;
}

class GemmEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: ContractPlan;
  readonly #params: Params;
  readonly #blocking: Blocking;
  readonly #source: PanelSource;
  readonly #n: Axis;
  readonly #m: number;
  readonly #tile: TileEmitter;
  /** Whether the epilogue reads what may lie where it stores: then no row may be stored twice. */
  readonly #storesOnce: boolean;

  constructor(asm: Asm, kernel: Kernel, plan: ContractPlan, params: Params, source: PanelSource) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#params = params;
    this.#blocking = blockContract(plan, params);
    this.#source = source;
    this.#n = plan.n[0];
    this.#m = extentOf(plan.m);
    const rowNames = plan.m.map(({ name }) => name);
    let readsRows = false;
    eachExpr(plan.epilogue, (x) => {
      readsRows ||= x.kind === 'load' && this.#exprs.table.dependsOn(x.index, new Set(rowNames));
    });
    this.#storesOnce = readsRows;
    this.#tile = new TileEmitter(this.#exprs, kernel, plan, params.width, source, this.#zeros());
  }

  /** Address of zeros behind the packed panels, where rows may be outside. */
  #zeros(): Reg | undefined {
    const isPacked = this.#source.kind === 'packed' || this.#source.kind === 'bytes';
    if (!isPacked || !this.#plan.a.guard) return undefined;
    const bytes = this.#panelBytes() * this.#blocking.panels * extentOf(this.#plan.batch);
    return this.#asm.address(this.#bufferOf(this.#plan.b.buffer), this.#asm.const('i32', bytes), 1);
  }

  /**
   * tile = (batch·nBlocks + n block)·mBlocks + m block: threads share out columns first, which are cut evenly, and each weight is
   * read by one thread.
   */
  run(): void {
    const asm = this.#asm;
    const { batch: batchAxes, m, n, k } = this.#plan;
    for (const axis of [...batchAxes, ...m, ...n, ...k]) this.#endOf(axis);
    const rows = this.#rowsAtRunTime();
    const { begin, end, mBlocks, nBlocks, rowsInBlock, panelsInBlock } = this.#share(rows);
    const split = (x: Reg, by: Reg | 1): [Reg, Reg] =>
      by === 1 ? [x, asm.const('i32', 0)] : [asm.op('div_u', [x, by]), asm.op('rem_u', [x, by])];
    asm.loop(begin, end, 1, (tile) =>
      this.#scopes.scope(() => {
        const [rest, mBlock] = split(tile, mBlocks);
        const [batch, nBlock] = split(rest, nBlocks);
        const coords = this.#split(batchAxes, batch);
        batchAxes.forEach((axis, i) => {
          this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
        });
        const first = asm.op('mul', [nBlock, panelsInBlock]);
        const part = { first, last: asm.op('add', [first, panelsInBlock]) };
        this.#block(this.#wholeBatch(coords, batch), part, asm.op('mul', [mBlock, rowsInBlock]), rowsInBlock, rows);
      }),
    );
  }

  /** How this call's tiles lie: as cut beforehand, or by the sizes that there are. */
  #share(rows: Reg | undefined): Share {
    const asm = this.#asm;
    const { batch, n } = this.#plan;
    const { mBlocks, nBlocks, rowsInBlock, panelsInBlock, panels, tiles } = this.#blocking;
    const c = (value: number) => asm.const('i32', value);
    if (!rows && !hasLimit(batch) && !hasLimit(n)) {
      const [begin, end] = asm.params;
      const known = (count: number): Reg | 1 => (count === 1 ? 1 : c(count));
      const cut = { rowsInBlock: c(rowsInBlock), panelsInBlock: c(panelsInBlock) };
      return { begin, end, mBlocks: known(mBlocks), nBlocks: known(nBlocks), ...cut };
    }
    const present = blockPresent(asm, this.#plan, this.#params, {
      rows: rows ?? c(this.#m),
      panels: n[0].limit ? this.#panelsOf(this.#endOf(n[0])) : c(panels),
      batches: this.#exprs.value(batch.map(e.boundOf).reduce(e.mul, e.index(1))),
    });
    return { ...presentRange(asm, present.tiles, tiles), ...present };
  }

  /** The register of an axis's end. */
  #endOf(axis: Axis): Reg {
    return this.#exprs.value(e.boundOf(axis));
  }

  /** Rows that there are at run time; undefined where no m axis has a limit. */
  #rowsAtRunTime(): Reg | undefined {
    const { m } = this.#plan;
    if (!hasLimit(m)) return undefined;
    return this.#exprs.value(m.map(e.boundOf).reduce(e.mul));
  }

  #panelBytes(): number {
    if (this.#source.kind === 'bytes') return packedPanelBytes(this.#source.dot.packing);
    return extentOf(this.#plan.k) * this.#blocking.width * 4;
  }

  #bufferOf(name: string): Reg {
    return this.#exprs.address(name, e.index(0)).base;
  }

  #split(axes: readonly Axis[], position: Reg): Reg[] {
    return coordinates(this.#asm, this.#exprs, axes, position);
  }

  /** The number of the batch among those of whole extents: packed panels lie in that order. */
  #wholeBatch(coords: readonly Reg[], batch: Reg): Reg {
    const asm = this.#asm;
    const axes = this.#plan.batch;
    if (!hasLimit(axes.slice(1))) return batch;
    return coords.reduce((sum, coord, i) =>
      asm.op('add', [asm.op('mul', [sum, asm.const('i32', axes[i].extent)]), coord]),
    );
  }

  /** Rows from `mFrom` on, `share` of them or as many as there are, against panels [first, last). */
  #block(
    batch: Reg,
    { first: firstPanel, last: lastPanel }: { readonly first: Reg; readonly last: Reg },
    mFrom: Reg,
    share: Reg,
    rows: Reg | undefined,
  ): void {
    const asm = this.#asm;
    const { width, panels } = this.#blocking;
    const c = (value: number) => asm.const('i32', value);
    const mTo = asm.op('min', [asm.op('add', [mFrom, share]), rows ?? c(this.#m)]);
    const full = Math.floor(this.#n.extent / width);
    const panelBytes = this.#panelBytes();
    const ofBatch = asm.op('mul', [batch, c(panels)]);
    const panelAt = (panel: Reg): Reg =>
      this.#source.kind === 'gathered'
        ? this.#source.scratch
        : asm.address(this.#bufferOf(this.#plan.b.buffer), asm.op('add', [ofBatch, panel]), panelBytes);
    const all = (): void => {
      if (full > 0) {
        const end = this.#n.limit ? asm.op('min', [c(full), this.#panelsOf(this.#endOf(this.#n))]) : c(full);
        asm.loop(firstPanel, asm.op('min', [lastPanel, end]), 1, (panel) =>
          this.#scopes.scope(() => this.#panel(panel, panelAt(panel), width, mFrom, mTo, rows)),
        );
      }
      const tail = this.#n.extent - full * width;
      if (tail === 0) return;
      const isLast = asm.op('ge', [lastPanel, c(panels)]);
      const isThere = this.#n.limit
        ? asm.op('and', [isLast, asm.op('gt', [this.#endOf(this.#n), c(full * width)])])
        : isLast;
      asm.if(isThere, () => this.#scopes.scope(() => this.#panel(c(full), panelAt(c(full)), tail, mFrom, mTo, rows)));
    };
    if (rows) asm.if(asm.op('lt', [mFrom, rows]), () => this.#scopes.scope(all));
    else all();
  }

  /** Panels that so many columns fill or begin. */
  #panelsOf(columns: Reg): Reg {
    const { width } = this.#blocking;
    return divideUp(this.#asm, columns, width);
  }

  /** All rows of the block against one panel of `columns` columns. */
  #panel(panel: Reg, packed: Reg, columns: number, mFrom: Reg, mTo: Reg, there: Reg | undefined): void {
    const asm = this.#asm;
    const first = asm.op('mul', [panel, asm.const('i32', this.#blocking.width)]);
    if (this.#source.kind === 'gathered') {
      const { width } = this.#blocking;
      gatherPanel(this.#exprs, this.#plan, { scratch: this.#source.scratch, width }, first, columns);
    }
    this.#scopes.bind(this.#n.name, { kind: 'lanes', base: first, offset: 0 });
    const rows = this.#blocking.rowsOf(columns);
    if (there) {
      this.#countedRows(rows, columns, packed, mFrom, mTo);
      return;
    }
    const whole = Math.floor(this.#m / rows) * rows;
    const rest = this.#m - whole;
    if (rest > 0 && (rows - rest) * OVERLAP_PART <= whole) {
      this.#rowLoop({ rows, columns }, packed, mFrom, mTo, true);
      return;
    }
    if (whole > 0) {
      const to = rest === 0 ? mTo : asm.op('min', [mTo, asm.const('i32', whole)]);
      this.#rowLoop({ rows, columns }, packed, mFrom, to);
    }
    if (rest === 0) return;
    asm.if(asm.op('eq', [mTo, asm.const('i32', this.#m)]), () =>
      this.#scopes.scope(() => {
        const from = asm.const('i32', whole);
        this.#rowLoop({ rows: rest, columns }, packed, from, asm.const('i32', this.#m));
      }),
    );
  }

  /** Rows [from, to), whose number only running tells: whole tiles, then tiles of half as many rows, down to single ones. */
  #countedRows(rows: number, columns: number, packed: Reg, from: Reg, to: Reg): void {
    const asm = this.#asm;
    let next = from;
    for (let size = rows; size > 0; size = Math.floor(size / 2)) {
      const left = asm.op('sub', [to, next]);
      const count = asm.op('mul', [asm.op('div_u', [left, asm.const('i32', size)]), asm.const('i32', size)]);
      const end = asm.op('add', [next, count]);
      const start = next;
      asm.if(asm.op('lt', [start, end]), () =>
        this.#scopes.scope(() => this.#rowLoop({ rows: size, columns }, packed, start, end)),
      );
      next = end;
    }
  }

  /**
   * Tiles of shape.rows rows over [from, to). With several m axes the coordinates of the next row are kept by carrying. Where they
   * overlap, the last tile of all begins so early that it is whole: some rows are computed twice, to the same values, and stored once where
   * that matters.
   */
  #rowLoop(shape: TileShape, packed: Reg, from: Reg, to: Reg, overlaps = false): void {
    const asm = this.#asm;
    const axes = this.#plan.m;
    const last = asm.const('i32', this.#m - shape.rows);
    const inner = axes.at(-1);
    const isAligned = axes.length > 1 && !inner?.limit && (inner?.extent ?? 0) % shape.rows === 0;
    const repeated = (m: Reg): Repeated | undefined =>
      overlaps && this.#storesOnce
        ? { rows: shape.rows - (this.#m % shape.rows), isRepeat: asm.op('gt', [m, last]) }
        : undefined;
    if (axes.length <= 1 || isAligned) {
      const next = axes.length > 1 ? this.#split(axes, from).map((x) => this.#copy(x)) : [];
      const stepped = asm.const('i32', shape.rows);
      asm.loop(from, to, shape.rows, (m) =>
        this.#scopes.scope(() => {
          const coords = axes.length > 1 ? next : [overlaps ? asm.op('min', [m, last]) : m];
          axes.forEach((axis, i) => {
            this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
          });
          this.#tile.emit(shape, packed, this.#rowsAlong(shape.rows), repeated(m));
          if (axes.length > 1) this.#advance(axes, next, stepped, next);
        }),
      );
      return;
    }
    const next = this.#split(axes, from).map((x) => this.#copy(x));
    asm.loop(from, to, shape.rows, (m) =>
      this.#scopes.scope(() => {
        if (overlaps) {
          asm.if(asm.op('gt', [m, last]), () => {
            coordinatesOf(axes, this.#m - shape.rows).forEach((at, i) => {
              asm.move(next[i], asm.const('i32', at));
            });
          });
        }
        const apart = (): void => this.#tile.emit(shape, packed, this.#rowsApart(shape.rows, next), repeated(m));
        if (inner?.limit && shape.rows === this.#blocking.rowsOf(shape.columns))
          this.#inOneLine(shape, packed, next, apart);
        else apart();
      }),
    );
  }

  /** A tile that begins at `next`, which is then moved on: by rows along the innermost axis where all of them lie in one line of it. */
  #inOneLine(shape: TileShape, packed: Reg, next: readonly Reg[], otherwise: () => void): void {
    const asm = this.#asm;
    const axes = this.#plan.m;
    const inner = axes.length - 1;
    const rows = asm.const('i32', shape.rows);
    asm.if(
      asm.op('le', [asm.op('add', [next[inner], rows]), this.#endOf(axes[inner])]),
      () =>
        this.#scopes.scope(() => {
          axes.forEach((axis, i) => {
            this.#scopes.bind(axis.name, { kind: 'register', reg: next[i] });
          });
          this.#tile.emit(shape, packed, this.#rowsAlong(shape.rows), undefined);
          this.#advance(axes, next, rows, next);
        }),
      () => this.#scopes.scope(otherwise),
    );
  }

  #copy(x: Reg): Reg {
    const out = this.#asm.reg('i32');
    this.#asm.move(out, x);
    return out;
  }

  /** coords + step along the innermost axis, carried outward; a carry leaves 0 behind, so step must divide the extent or be 1. */
  #advance(axes: readonly Axis[], coords: readonly Reg[], step: Reg, into: readonly Reg[]): void {
    const asm = this.#asm;
    let increment = step;
    for (let i = axes.length - 1; i >= 0; i--) {
      const sum = asm.op('add', [coords[i], increment]);
      if (i === 0) {
        asm.move(into[0], sum);
        return;
      }
      const carry = asm.op('ge', [sum, this.#endOf(axes[i])]);
      asm.select(carry, asm.const('i32', 0), sum, into[i]);
      increment = carry;
    }
  }

  /** Rows one behind the other along the innermost m axis: row r is that axis plus r. */
  #rowsAlong(rows: number): Rows {
    const inner = this.#plan.m.at(-1);
    const each = Array.from({ length: rows }, (_, row) => () => {
      if (inner) this.#scopes.shift(inner.name, row);
    });
    const { table } = this.#exprs;
    const isLinear = conjuncts(this.#plan.a.guard).every(
      (g) => g.kind === 'binary' && inner && [g.a, g.b].every((x) => table.strideAlong(x, inner.name) !== undefined),
    );
    return { each, ends: isLinear && rows > 1 ? [each[0], each[rows - 1]] : each };
  }

  /** Rows anywhere: each has coordinates of its own, the next ones in `next`, which goes on. */
  #rowsApart(rows: number, next: readonly Reg[]): Rows {
    const axes = this.#plan.m;
    const one = this.#asm.const('i32', 1);
    const names = axes.map(({ name }) => name);
    const each = Array.from({ length: rows }, () => {
      axes.forEach((axis, i) => {
        this.#scopes.bind(axis.name, { kind: 'register', reg: this.#copy(next[i]) });
      });
      this.#advance(axes, next, one, next);
      const own = this.#scopes.save(names);
      return () => this.#scopes.restore(own);
    });
    return { each, ends: each };
  }
}

/** Coordinates of a flat position. */
function coordinatesOf(axes: readonly Axis[], position: number): number[] {
  const out: number[] = [];
  let rest = position;
  for (const { extent } of axes.toReversed()) {
    out.unshift(rest % extent);
    rest = Math.floor(rest / extent);
  }
  return out;
}
