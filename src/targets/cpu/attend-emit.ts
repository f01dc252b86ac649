/**
 * An attend over tiles of queries: both products by register tiles, the scores of a few rows at a time in the thread's scratch.
 *
 *     for tile of rows:  for block of keys:
 *       K packed:  [panel][inner][width]                         (by whoever comes to a head first, where all its keys are one block)
 *       for group of `rows` rows:
 *         S[row][key] = score(Σ q · K)                           rows × width accumulators
 *         next = max(most, max of S);  S = exp(S - next);  sum = sum · exp(most - next) + Σ S
 *         Y[row] = Y[row] · exp(most - next) + S · V             rows × width accumulators
 *     y = Y / sum, and the epilogue
 *
 * Where an axis has a limit, heads and tiles behind it are skipped. A group of rows may reach over the limit, as far as the extent: nobody reads
 * what it stores. Of keys behind it the scores are -inf and the values are not read.
 *
 * With one block of keys, Y stays in the accumulators and nothing is rescaled. The online normalizer is Milakov and Gimelshein's (2018), the
 * tiling FlashAttention's (Dao and others, 2022), turned to what a core has: rows of S are as long as a block, and stay in the first cache.
 */
import { leastOf } from '../../loop/attend.ts';
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { type AttendBlocking, type AttendOperand, type AttendPlan, blockAttend } from './attend-plan.ts';
import { extentOf } from './contract-plan.ts';
import { ExprEmitter } from './emit-expr.ts';
import { expConstants, expOfNegative } from './exp-of-negative.ts';
import type { Scopes } from './scopes.ts';
import { exprMapper, localKey, mapStmts } from './walk.ts';

type Accumulators = readonly (readonly Reg[])[];

/** The keys of a block: how many at most, where they begin, and how many there are where a limit says. */
interface Keys {
  readonly most: number;
  readonly first: Reg;
  readonly there: Reg | undefined;
}

/** Some rows of a tile, as many as the code is written for, and the keys that they see. */
interface Group {
  readonly rows: number;
  /** The first row's number in the tile. */
  readonly inTile: Reg;
  readonly keys: Keys;
}

/** Vectors of a row that are looked at together. */
const UNROLLED = 4;
const GATHERED_AT_ONCE = 4;

export class AttendEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: AttendPlan;
  readonly #params: Params;
  readonly #blocking: AttendBlocking;
  readonly #scratch: Reg;

  constructor(asm: Asm, kernel: Kernel, plan: AttendPlan, params: Params) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#params = params;
    this.#blocking = blockAttend(plan, params);
    this.#scratch = asm.params[asm.params.length - 1];
  }

  readonly #index = (value: number): Reg => this.#asm.const('i32', value);

  /** tile = ((heads, sharing) · row blocks + row block). */
  run(): void {
    const asm = this.#asm;
    const { heads, sharing, fixed } = this.#plan;
    const { rowBlocks, keyBlocks } = this.#blocking;
    const c = this.#index;
    for (const axis of fixed) this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
    // Known before the first loop, so that all find them in registers.
    for (const axis of [...heads, ...sharing, this.#plan.rows, this.#plan.key]) this.#endOf(axis);
    const packed = asm.reg('i32');
    asm.move(packed, c(-1));
    asm.loop(asm.params[0], asm.params[1], 1, (tile) =>
      this.#scopes.scope(() => {
        const [outer, block] = this.#divided(tile, rowBlocks);
        const [head, shared] = this.#divided(outer, extentOf(sharing));
        this.#bindPosition(heads, head);
        this.#bindPosition(sharing, shared);
        const from = asm.op('mul', [block, c(this.#blocking.rowsInTile)]);
        const work = (): void => {
          if (keyBlocks === 1) {
            asm.if(asm.op('ne', [head, packed]), () =>
              this.#scopes.scope(() => {
                asm.move(packed, head);
                this.#pack(this.#keysFrom(c(0), this.#plan.key.extent));
              }),
            );
          }
          this.#tile(from);
        };
        const inside = [...heads, ...sharing].flatMap((axis) =>
          axis.limit ? [asm.op('lt', [this.#exprs.value(e.axis(axis.name)), this.#endOf(axis)])] : [],
        );
        if (this.#plan.rows.limit) inside.push(asm.op('lt', [from, this.#endOf(this.#plan.rows)]));
        if (inside.length === 0) work();
        else
          asm.if(
            inside.reduce((x, y) => asm.op('and', [x, y])),
            () => this.#scopes.scope(work),
          );
      }),
    );
  }

  /** The register of an axis's end. */
  #endOf(axis: Axis): Reg {
    return this.#exprs.value(e.boundOf(axis));
  }

  /** Keys from `first` on, `most` unless a limit comes before. */
  #keysFrom(first: Reg, most: number): Keys {
    const { key } = this.#plan;
    if (!key.limit) return { most, first, there: undefined };
    const asm = this.#asm;
    return { most, first, there: asm.op('min', [asm.op('sub', [this.#endOf(key), first]), this.#index(most)]) };
  }

  /** x / step rounded up. */
  #roundedUp(x: Reg, step: number): Reg {
    return this.#asm.op('div_u', [this.#asm.op('add', [x, this.#index(step - 1)]), this.#index(step)]);
  }

  /** Quotient and remainder. */
  #divided(x: Reg, by: number): readonly [Reg, Reg] {
    if (by === 1) return [x, this.#index(0)];
    return [this.#asm.op('div_u', [x, this.#index(by)]), this.#asm.op('rem_u', [x, this.#index(by)])];
  }

  #bindPosition(axes: readonly Axis[], position: Reg): void {
    let rest = position;
    for (const axis of axes.toReversed()) {
      const [quotient, at] = axis === axes[0] ? [rest, rest] : this.#divided(rest, axis.extent);
      this.#scopes.bind(axis.name, { kind: 'register', reg: at });
      rest = quotient;
    }
  }

  #tile(from: Reg): void {
    const asm = this.#asm;
    const { rows: m, key } = this.#plan;
    const { rowsInTile, keyBlocks, keysInBlock } = this.#blocking;
    const c = this.#index;
    const to = asm.op('min', [asm.op('add', [from, c(rowsInTile)]), c(m.extent)]);
    if (keyBlocks === 1) {
      this.#groups(from, to, this.#keysFrom(c(0), key.extent));
      return;
    }
    this.#begin(asm.op('sub', [to, from]));
    const block = (first: Reg, most: number): void => {
      const keys = this.#keysFrom(first, most);
      this.#pack(keys);
      this.#groups(from, to, keys);
    };
    const whole = Math.floor(key.extent / keysInBlock) * keysInBlock;
    const end = key.limit ? asm.op('min', [c(whole), this.#endOf(key)]) : c(whole);
    asm.loop(c(0), end, keysInBlock, (first) => this.#scopes.scope(() => block(first, keysInBlock)));
    if (whole < key.extent) {
      const last = (): void => this.#scopes.scope(() => block(c(whole), key.extent - whole));
      if (key.limit) asm.if(asm.op('gt', [this.#endOf(key), c(whole)]), last);
      else last();
    }
    this.#end(from, to);
  }

  /** The rows of a tile in groups, the last few in a smaller one. */
  #groups(from: Reg, to: Reg, keys: Keys): void {
    const asm = this.#asm;
    const { extent, limit } = this.#plan.rows;
    const { rows } = this.#params;
    const c = this.#index;
    const group = (row: Reg, count: number): void => {
      this.#scopes.bind(this.#plan.rows.name, { kind: 'register', reg: row });
      this.#group({ rows: count, inTile: asm.op('sub', [row, from]), keys });
    };
    const rest = extent % rows;
    const whole = extent - rest;
    const there = limit && this.#endOf(this.#plan.rows);
    if (whole > 0) {
      const most = rest === 0 ? to : asm.op('min', [to, c(whole)]);
      const end = there ? asm.op('min', [most, there]) : most;
      asm.loop(from, end, rows, (row) => this.#scopes.scope(() => group(row, rows)));
    }
    if (rest === 0) return;
    const isLast = asm.op('eq', [to, c(extent)]);
    const isThere = there ? asm.op('and', [isLast, asm.op('gt', [there, c(whole)])]) : isLast;
    asm.if(isThere, () => this.#scopes.scope(() => group(c(whole), rest)));
  }

  #group(group: Group): void {
    this.#scopes.scope(() => this.#scores(group));
    this.#scopes.scope(() => this.#weights(group));
    this.#scopes.scope(() => this.#values(group));
  }

  /** Where a part of the scratch is, `index` times `bytes` further. */
  #at(part: number, index?: Reg, bytes = 0): Reg {
    const start = part === 0 ? this.#scratch : this.#asm.address(this.#scratch, this.#index(part), 1);
    return index ? this.#asm.address(start, index, bytes) : start;
  }

  #bump(pointer: Reg, bytes: number): void {
    if (bytes !== 0) this.#asm.op('add', [pointer, this.#asm.const('ptr', bytes)], pointer);
  }

  #pointer(from: Reg): Reg {
    const out = this.#asm.reg('ptr');
    this.#asm.move(out, from);
    return out;
  }

  #strideBytes({ index }: AttendOperand, axis: Axis): number {
    return (this.#exprs.table.strideAlong(index, axis.name) ?? 0) * 4;
  }

  /**
   * `body` for panels of `width` of `count` columns, the last one narrower, with the number of the first column; for those that begin before
   * `there`.
   */
  #panels(count: number, there: Reg | undefined, body: (first: Reg, panel: Reg, columns: number) => void): void {
    const asm = this.#asm;
    const { width } = this.#params;
    const c = this.#index;
    const full = Math.floor(count / width);
    const panel = (at: Reg, columns: number): void =>
      this.#scopes.scope(() => body(asm.op('mul', [at, c(width)]), at, columns));
    if (full > 0) {
      const end = there ? asm.op('min', [c(full), this.#roundedUp(there, width)]) : c(full);
      asm.loop(c(0), end, 1, (at) => panel(at, width));
    }
    if (count === full * width) return;
    if (there) asm.if(asm.op('gt', [there, c(full * width)]), () => panel(c(full), count - full * width));
    else panel(c(full), count - full * width);
  }

  /** Keys as [panel][inner][width]. */
  #pack({ first, most, there }: Keys): void {
    const asm = this.#asm;
    const { k, key, inner, keyStride } = this.#plan;
    const rowBytes = this.#params.width * 4;
    const stepBytes = this.#strideBytes(k, inner);
    const c = this.#index;
    this.#scopes.bind(inner.name, { kind: 'constant', value: 0 });
    this.#panels(most, there, (start, panel, columns) => {
      const to = this.#at(0, panel, inner.extent * rowBytes);
      const from = (column: Reg | undefined): { base: Reg; byteOffset: number } => {
        const at = asm.op('add', [first, start]);
        this.#scopes.bind(key.name, { kind: 'register', reg: column ? asm.op('add', [at, column]) : at });
        return this.#exprs.address(k.buffer, k.index);
      };
      if (keyStride === 1) {
        const { base, byteOffset } = from(undefined);
        const [source, target] = [this.#pointer(base), this.#pointer(to)];
        const vectors = Math.floor(columns / asm.lanes);
        asm.repeat(inner.extent, () => {
          const copy = (type: 'vf32' | 'f32', at: number): void =>
            asm.store(type, target, at, asm.load(type, source, byteOffset + at));
          for (let v = 0; v < vectors; v++) copy('vf32', v * asm.lanes * 4);
          for (let j = vectors * asm.lanes; j < columns; j++) copy('f32', j * 4);
          this.#bump(source, stepBytes);
          this.#bump(target, rowBytes);
        });
        return;
      }
      asm.loop(c(0), c(columns), 1, (column) =>
        this.#scopes.scope(() => {
          const { base, byteOffset } = from(column);
          const [source, target] = [this.#pointer(base), this.#pointer(asm.address(to, column, 4))];
          const copy = (count: number): void => {
            const elements = Array.from({ length: count }, (_, i) =>
              asm.load('f32', source, byteOffset + i * stepBytes),
            );
            elements.forEach((x, i) => {
              asm.store('f32', target, i * rowBytes, x);
            });
          };
          const rest = inner.extent % GATHERED_AT_ONCE;
          if (inner.extent > rest)
            asm.repeat((inner.extent - rest) / GATHERED_AT_ONCE, () => {
              copy(GATHERED_AT_ONCE);
              this.#bump(source, GATHERED_AT_ONCE * stepBytes);
              this.#bump(target, GATHERED_AT_ONCE * rowBytes);
            });
          copy(rest);
        }),
      );
    });
  }

  #accumulators(rows: number, columns: number, start: (row: number, v: number) => Reg): Accumulators {
    return Array.from({ length: rows }, (_, row) =>
      Array.from({ length: Math.ceil(columns / this.#asm.lanes) }, (_, v) => {
        const reg = this.#asm.reg('vf32');
        this.#asm.move(reg, start(row, v));
        return reg;
      }),
    );
  }

  /** acc[row][v] += a[row] · b[v], `count` times: a by splats `rowBytes` apart, both moving on by their steps. */
  #products(
    count: number | Reg,
    acc: Accumulators,
    a: { readonly from: Reg; readonly byteOffset: number; readonly rowBytes: number; readonly stepBytes: number },
    b: { readonly from: Reg; readonly byteOffset: number; readonly stepBytes: number },
  ): void {
    const asm = this.#asm;
    const [left, right] = [this.#pointer(a.from), this.#pointer(b.from)];
    const step = (): void => {
      const vectors = acc[0].map((_, v) => asm.load('vf32', right, b.byteOffset + v * asm.lanes * 4));
      acc.forEach((sums, row) => {
        const splat = asm.load('splatf32', left, a.byteOffset + row * a.rowBytes);
        sums.forEach((sum, v) => {
          asm.fma(sum, splat, vectors[v]);
        });
      });
      this.#bump(left, a.stepBytes);
      this.#bump(right, b.stepBytes);
    };
    if (typeof count === 'number') asm.repeat(count, step);
    else asm.loop(this.#index(0), count, 1, () => this.#scopes.scope(step));
  }

  /** S of a group. */
  #scores(group: Group): void {
    const asm = this.#asm;
    const { q, inner, rows, key } = this.#plan;
    const { width } = this.#params;
    const { scoresAt } = this.#blocking;
    const zero = asm.const('vf32', 0);
    this.#scopes.bind(inner.name, { kind: 'constant', value: 0 });
    const { base, byteOffset } = this.#exprs.address(q.buffer, q.index);
    const a = {
      from: base,
      byteOffset,
      rowBytes: this.#strideBytes(q, rows),
      stepBytes: this.#strideBytes(q, inner),
    };
    this.#panels(group.keys.most, group.keys.there, (start, panel, columns) => {
      const acc = this.#accumulators(group.rows, columns, () => zero);
      const b = { from: this.#at(0, panel, inner.extent * width * 4), byteOffset: 0, stepBytes: width * 4 };
      this.#products(inner.extent, acc, a, b);
      const first = asm.op('add', [group.keys.first, start]);
      this.#scopes.bind(key.name, { kind: 'lanes', base: first, offset: 0 });
      const out = this.#at(scoresAt, start, 4);
      acc.forEach((vectors, row) => {
        const score = mapStmts(this.#plan.score, this.#rowMap(row));
        vectors.forEach((dot, v) => {
          this.#score(score, dot, v, columns, out, row);
        });
      });
    });
  }

  /** Rows one behind the other: row r is the axis plus r. */
  #rowMap(row: number): (x: Expr) => Expr {
    const { name } = this.#plan.rows;
    return exprMapper((x) => (x.kind === 'axis' && x.name === name && row > 0 ? e.add(x, e.index(row)) : x));
  }

  /** One vector of scores. Behind the last key they are -inf, and nothing is read there. */
  #score(score: readonly Stmt[], dot: Reg, v: number, columns: number, out: Reg, row: number): void {
    const asm = this.#asm;
    const { key, loadsByKey } = this.#plan;
    const count = Math.min(asm.lanes, columns - v * asm.lanes);
    const byteOffset = (row * this.#blocking.scoreStride + v * asm.lanes) * 4;
    this.#scopes.shift(key.name, v * asm.lanes);
    if (count === asm.lanes || !loadsByKey) {
      const value = this.#scoreOf(score, dot);
      const kept = count === asm.lanes ? value : asm.select(this.#first(count), value, this.#hidden());
      asm.store('vf32', out, byteOffset, kept);
      return;
    }
    asm.store('vf32', out, byteOffset, this.#hidden());
    const binding = this.#scopes.binding(key.name);
    const saved = this.#scopes.save([key.name]);
    for (let lane = 0; lane < count && binding?.kind === 'lanes'; lane++) {
      const at = asm.op('add', [binding.base, this.#index(v * asm.lanes + lane)]);
      this.#scopes.bind(key.name, { kind: 'register', reg: at });
      asm.store('f32', out, byteOffset + lane * 4, this.#scoreOf(score, asm.extract(dot, lane)));
    }
    this.#scopes.restore(saved);
  }

  #hidden(): Reg {
    return this.#scopes.cached('hidden', () => this.#asm.const('vf32', Number.NEGATIVE_INFINITY));
  }

  /** A mask of the first lanes. */
  #first(count: number): Reg {
    return this.#scopes.cached(`first ${count}`, () => {
      let out = this.#asm.const('vi32', 0);
      for (let lane = 0; lane < count; lane++) out = this.#asm.insert(out, lane, this.#index(-1));
      return out;
    });
  }

  #scoreOf(score: readonly Stmt[], dot: Reg): Reg {
    this.#scopes.bind(localKey('dot'), { kind: 'register', reg: dot });
    for (const s of score) {
      if (s.kind !== 'let') continue;
      const reg = dot.type === 'vf32' ? this.#exprs.vector(s.value) : this.#exprs.value(s.value);
      this.#scopes.bind(localKey(s.local), { kind: 'register', reg });
    }
    const { key } = this.#plan;
    const named = e.local('score', 'f32');
    const isThere = e.binary('lt', e.axis(key.name), e.boundOf(key));
    const kept = key.limit ? e.select(isThere, named, e.constant('f32', Number.NEGATIVE_INFINITY)) : named;
    return dot.type === 'vf32' ? this.#exprs.vector(kept) : this.#exprs.value(kept);
  }

  /** The vectors of a row of S, several at a time: `body` gets a pointer, an offset and a number below UNROLLED. */
  #alongRow(row: Reg, { most, there }: Keys, body: (pointer: Reg, byteOffset: number, copy: number) => void): void {
    const asm = this.#asm;
    const bytes = asm.lanes * 4;
    const pointer = this.#pointer(row);
    const some = (count: number): void => {
      for (let i = 0; i < count; i++) body(pointer, i * bytes, i);
    };
    const round = (count: number) => (): void =>
      this.#scopes.scope(() => {
        some(count);
        this.#bump(pointer, count * bytes);
      });
    if (there) {
      const vectors = this.#roundedUp(there, asm.lanes);
      const many = asm.op('and', [vectors, this.#index(-UNROLLED)]);
      asm.loop(this.#index(0), many, UNROLLED, round(UNROLLED));
      asm.loop(many, vectors, 1, round(1));
      return;
    }
    const vectors = Math.ceil(most / asm.lanes);
    const rest = vectors % UNROLLED;
    if (vectors >= UNROLLED) asm.repeat((vectors - rest) / UNROLLED, round(UNROLLED));
    some(rest);
  }

  /** Weights in the place of scores, and the state of each row. */
  #weights(group: Group): void {
    const asm = this.#asm;
    const { scoreStride, scoresAt, statesAt, keyBlocks } = this.#blocking;
    const least = asm.const('f32', leastOf('f32'));
    const constants = expConstants(asm);
    asm.loop(this.#index(0), this.#index(group.rows), 1, (r) =>
      this.#scopes.scope(() => {
        const row = this.#at(scoresAt, r, scoreStride * 4);
        const state = this.#at(statesAt, asm.op('add', [group.inTile, r]), 12);
        const greatest = Array.from({ length: UNROLLED }, () => asm.reg('vf32'));
        for (const reg of greatest) asm.move(reg, asm.const('vf32', leastOf('f32')));
        this.#alongRow(row, group.keys, (pointer, byteOffset, copy) => {
          const x = asm.load('vf32', pointer, byteOffset);
          asm.move(greatest[copy], asm.bounded('max', greatest[copy], x));
        });
        const all = greatest.reduce((x, y) => asm.bounded('max', x, y));
        const most = keyBlocks === 1 ? least : asm.load('f32', state, 0);
        const next = asm.op('max', [asm.horizontal('max', all), most]);
        const subtrahend = asm.splat(next);
        const sums = Array.from({ length: UNROLLED }, () => asm.reg('vf32'));
        for (const reg of sums) asm.move(reg, asm.const('vf32', 0));
        this.#alongRow(row, group.keys, (pointer, byteOffset, copy) => {
          const shifted = asm.op('sub', [asm.load('vf32', pointer, byteOffset), subtrahend]);
          const weight = expOfNegative(asm, shifted, constants);
          asm.store('vf32', pointer, byteOffset, weight);
          asm.op('add', [sums[copy], weight], sums[copy]);
        });
        const sum = asm.horizontal(
          'add',
          sums.reduce((x, y) => asm.op('add', [x, y])),
        );
        if (keyBlocks === 1) {
          asm.store('f32', state, 4, sum);
          return;
        }
        const keep = asm.extract(expOfNegative(asm, asm.op('sub', [asm.splat(most), subtrahend]), constants), 0);
        const before = asm.op('mul', [asm.load('f32', state, 4), keep]);
        asm.store('f32', state, 0, next);
        asm.store('f32', state, 4, asm.op('add', [before, sum]));
        asm.store('f32', state, 8, keep);
      }),
    );
  }

  /** Sums of values of a group: finished where there is one block of keys, else added to what there is. */
  #values(group: Group): void {
    const asm = this.#asm;
    const { v, key, value } = this.#plan;
    const { scoreStride, scoresAt, statesAt, sumsAt, keyBlocks } = this.#blocking;
    const zero = asm.const('vf32', 0);
    const states = this.#at(statesAt, group.inTile, 12);
    const a = { from: this.#at(scoresAt), byteOffset: 0, rowBytes: scoreStride * 4, stepBytes: 4 };
    const valueBytes = value.extent * 4;
    this.#panels(value.extent, undefined, (start, _, columns) => {
      this.#scopes.bind(key.name, { kind: 'register', reg: group.keys.first });
      this.#scopes.bind(value.name, { kind: 'lanes', base: start, offset: 0 });
      const { base, byteOffset } = this.#exprs.address(v.buffer, v.index);
      const b = { from: base, byteOffset, stepBytes: this.#strideBytes(v, key) };
      if (keyBlocks === 1) {
        const acc = this.#accumulators(group.rows, columns, () => zero);
        this.#products(group.keys.there ?? group.keys.most, acc, a, b);
        acc.forEach((vectors, row) => {
          const state = { base: states, byteOffset: row * 12 };
          this.#finish(vectors, state, this.#rowMap(row));
        });
        return;
      }
      const sums = asm.address(this.#at(sumsAt, group.inTile, valueBytes), start, 4);
      const place = (row: number, i: number): number => row * valueBytes + i * asm.lanes * 4;
      const acc = this.#accumulators(group.rows, columns, (row, i) => {
        const keep = this.#scopes.cached(`keep ${row}`, () => asm.load('splatf32', states, row * 12 + 8));
        return asm.op('mul', [asm.load('vf32', sums, place(row, i)), keep]);
      });
      this.#products(group.keys.there ?? group.keys.most, acc, a, b);
      acc.forEach((vectors, row) => {
        vectors.forEach((sum, i) => {
          asm.store('vf32', sums, place(row, i), sum);
        });
      });
    });
  }

  /** A row's vectors, which begin at the bound position of the value axis, divided by its sum of weights, and the epilogue. */
  #finish(
    vectors: readonly Reg[],
    state: { readonly base: Reg; readonly byteOffset: number },
    rowMap: (x: Expr) => Expr,
  ): void {
    const asm = this.#asm;
    const { value, empty } = this.#plan;
    const epilogue = mapStmts(this.#plan.epilogue, rowMap);
    const sum = asm.load('splatf32', state.base, state.byteOffset + 4);
    const factor = asm.op('div', [asm.const('vf32', 1), sum]);
    const zero = asm.const('vf32', 0);
    const isSum = empty === 'zero' ? asm.op('gt', [sum, zero]) : undefined;
    vectors.forEach((acc, i) => {
      this.#scopes.shift(value.name, i * asm.lanes);
      const mean = asm.op('mul', [acc, factor]);
      this.#scopes.bind(localKey('acc'), { kind: 'register', reg: isSum ? asm.select(isSum, mean, zero) : mean });
      for (const s of epilogue) {
        if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
        else if (s.kind === 'let')
          this.#scopes.bind(localKey(s.local), { kind: 'register', reg: this.#exprs.value(s.value) });
      }
    });
    this.#scopes.shift(value.name, 0);
  }

  /** The states and sums of a tile's rows before the first block. */
  #begin(count: Reg): void {
    const asm = this.#asm;
    const { statesAt, sumsAt } = this.#blocking;
    const { value } = this.#plan;
    const c = this.#index;
    const [least, zero] = [asm.const('f32', leastOf('f32')), asm.const('f32', 0)];
    const zeros = asm.const('vf32', 0);
    asm.loop(c(0), count, 1, (row) =>
      this.#scopes.scope(() => {
        const state = this.#at(statesAt, row, 12);
        asm.store('f32', state, 0, least);
        asm.store('f32', state, 4, zero);
        const sums = this.#pointer(this.#at(sumsAt, row, value.extent * 4));
        asm.repeat(value.extent / asm.lanes, () => {
          asm.store('vf32', sums, 0, zeros);
          this.#bump(sums, asm.lanes * 4);
        });
      }),
    );
  }

  /** The results of a tile's rows after the last block. */
  #end(from: Reg, to: Reg): void {
    const asm = this.#asm;
    const { statesAt, sumsAt } = this.#blocking;
    const { rows, value } = this.#plan;
    asm.loop(from, rows.limit ? asm.op('min', [to, this.#endOf(rows)]) : to, 1, (row) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(rows.name, { kind: 'register', reg: row });
        const inTile = asm.op('sub', [row, from]);
        const state = this.#at(statesAt, inTile, 12);
        const sums = this.#at(sumsAt, inTile, value.extent * 4);
        asm.loop(this.#index(0), this.#index(value.extent), asm.lanes, (column) =>
          this.#scopes.scope(() => {
            this.#scopes.bind(value.name, { kind: 'lanes', base: column, offset: 0 });
            const acc = asm.load('vf32', asm.address(sums, column, 4), 0);
            this.#finish([acc], { base: state, byteOffset: 0 }, (x) => x);
          }),
        );
      }),
    );
  }
}
