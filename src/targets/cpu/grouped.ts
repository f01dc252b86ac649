/**
 * The template `grouped`: convolutions whose groups have four or eight channels, fewer than a vector has lanes.
 *
 *     tile = outer m axes (image, row) × chunk of channels
 *     for channels, a vector of them at a time:  for blocks of columns of the row:
 *       for outer taps (kh), if the row is inside:
 *         for lane 0 to 3:  x[c] = input column c with that lane of each four in all four
 *           for taps (kw), for turns:  acc[turn][t] += x[column of t at kw] · w[kh, kw, lane, turn]     for all columns t
 *       out[t] = acc[0][t] + the fours of acc[1][t] with their neighbours' places
 *
 * With four channels a group an output finds all of its inputs in its own four lanes. With eight, what a four contributes to its neighbour
 * is summed apart (turn 1) and moved once, at the end. Each input column is repeated once a lane for all columns and taps that see it.
 * Which taps are inside is known for every column when the code is made: blocks in which all are run in a loop, others have code of
 * their own.
 */
import { Bug } from '../../core/errors.ts';
import * as e from '../../loop/expr.ts';
import type { Expr, Kernel, Stmt } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { extentOf } from './contract-plan.ts';
import { ExprEmitter } from './emit-expr.ts';
import { type GroupedPlan, planGrouped } from './grouped-plan.ts';
import { laneScore } from './lanes.ts';
import { ExprTable } from './linear.ts';
import type { Scopes } from './scopes.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, lanesOf, vectorMachine } from './vector-machine.ts';
import { exprMapper, localKey, mapStmts } from './walk.ts';

const FOUR = 4;
const ENOUGH_TILES = 16;
const MOST_COLUMNS = 8;
const NS_PER_CYCLE = 0.3;

function planOf(kernel: Kernel): GroupedPlan {
  const plan = planGrouped(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} is no convolution of small groups`);
  return plan;
}

export const grouped: CpuTemplate = {
  name: 'grouped',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const plan = planGrouped(kernel);
    if (!plan || !facts.constant.has(plan.b)) return [];
    // Vectors of four lanes have no neighbours to exchange fours with, and V8 spills what is repeated: 19 GFLOP/s, as by panels.
    return lanesOf(features)
      .filter((lanes) => lanes > FOUR && plan.channel.extent % lanes === 0 && isInLanes(kernel, plan))
      .map((lanes) => ({ lanes, columns: columnsFor(plan, lanes) }))
      .filter(({ columns }) => columns > 0);
  },
  predictNs: (kernel, { lanes, columns }) => {
    const plan = planOf(kernel);
    const taps = plan.tap?.extent ?? 1;
    const vectors = (extentOf(plan.outer) * plan.column.extent * plan.channel.extent) / lanes;
    const products = (columns * taps * plan.per) / vectorMachine(lanes).multiplyAdds;
    const others = FOUR * inputsOf(plan, columns) + taps * plan.per;
    const row = Math.max(products, others, FOUR * taps * FOUR) + others / 4;
    return (vectors / columns) * (extentOf(plan.outerTaps) * row + 10 + 6 * columns) * NS_PER_CYCLE;
  },
  tiles: (kernel, { lanes }) => cutOf(planOf(kernel), lanes).tiles,
  packing: (kernel, { lanes }) => {
    const plan = planOf(kernel);
    const taps = extentOf(plan.outerTaps) * (plan.tap?.extent ?? 1);
    return new Map([[plan.b, { kind: 'groups', width: lanes, per: plan.per, taps, n: plan.channel.extent }]]);
  },
  emit: (asm, kernel, params) => {
    checkLanes(asm, params.lanes);
    new GroupedEmitter(asm, kernel, planOf(kernel), params).run();
  },
};

/** Whether the epilogue runs on vectors of channels. */
function isInLanes(kernel: Kernel, { channel, epilogue }: GroupedPlan): boolean {
  const facts = { table: new ExprTable(), buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
  const acc: Stmt = { kind: 'let', local: 'acc', dtype: 'f32', value: e.cast('f32', e.axis(channel.name)) };
  return laneScore(facts, [acc, ...epilogue], channel.name) !== undefined;
}

/** Input columns that so many outputs side by side see. */
function inputsOf({ tap, columnStride, tapStride }: GroupedPlan, columns: number): number {
  const seen = new Set<number>();
  for (let t = 0; t < columns; t++)
    for (let k = 0; k < (tap?.extent ?? 1); k++) seen.add(t * columnStride + k * tapStride);
  return seen.size;
}

/** Columns whose sums, inputs and a weight are in registers together, such that a row is cut evenly; 0 where there are none. */
function columnsFor(plan: GroupedPlan, lanes: number): number {
  const { extent } = plan.column;
  let most = Math.min(MOST_COLUMNS, extent);
  const fits = (columns: number): boolean =>
    (columns * plan.per) / FOUR + inputsOf(plan, columns) + 1 <= vectorMachine(lanes).registers;
  while (most > 0 && !fits(most)) most--;
  return most === 0 ? 0 : Math.ceil(extent / Math.ceil(extent / most));
}

/** Tiles: points of the outer m axes, times chunks of channels where those are few. */
function cutOf(plan: GroupedPlan, lanes: number) {
  const rows = extentOf(plan.outer);
  const wanted = Math.ceil(ENOUGH_TILES / rows);
  const chunk = Math.ceil(Math.max(lanes, plan.channel.extent / wanted) / lanes) * lanes;
  const chunks = Math.ceil(plan.channel.extent / chunk);
  return { chunk, chunks, tiles: rows * chunks };
}

/** For each column of a block its taps that are inside. */
type Taps = readonly (readonly number[])[];

class GroupedEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: GroupedPlan;
  readonly #columns: number;
  readonly #turns: number;
  readonly #weights: Reg;

  constructor(asm: Asm, kernel: Kernel, plan: GroupedPlan, params: Params) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#columns = params.columns;
    this.#turns = plan.per / FOUR;
    this.#weights = this.#exprs.address(plan.b, e.index(0)).base;
  }

  #index(value: number): Reg {
    return this.#asm.const('i32', value);
  }

  run(): void {
    const asm = this.#asm;
    const { outer, channel } = this.#plan;
    const { chunk, chunks } = cutOf(this.#plan, asm.lanes);
    for (const axis of outer) this.#exprs.value(e.boundOf(axis));
    asm.loop(asm.params[0], asm.params[1], 1, (tile) =>
      this.#scopes.scope(() => {
        let rest = asm.op('div_u', [tile, this.#index(chunks)]);
        for (let i = outer.length - 1; i >= 0; i--) {
          const coord = i === 0 ? rest : asm.op('rem_u', [rest, this.#index(outer[i].extent)]);
          if (i > 0) rest = asm.op('div_u', [rest, this.#index(outer[i].extent)]);
          this.#scopes.bind(outer[i].name, { kind: 'register', reg: coord });
        }
        const from = asm.op('mul', [asm.op('rem_u', [tile, this.#index(chunks)]), this.#index(chunk)]);
        const to = asm.op('min', [asm.op('add', [from, this.#index(chunk)]), this.#index(channel.extent)]);
        const inside = outer.flatMap((a) =>
          a.limit ? [this.#exprs.value(e.binary('lt', e.axis(a.name), e.boundOf(a)))] : [],
        );
        if (inside.length === 0) this.#row(from, to);
        else
          asm.if(
            inside.reduce((x, y) => asm.op('and', [x, y])),
            () => this.#scopes.scope(() => this.#row(from, to)),
          );
      }),
    );
  }

  /** All columns of a row, channels [from, to). */
  #row(from: Reg, to: Reg): void {
    const asm = this.#asm;
    const { channel, column, taps } = this.#plan;
    const tapElements = (this.#plan.tap?.extent ?? 1) * extentOf(this.#plan.outerTaps) * this.#plan.per;
    asm.loop(from, to, asm.lanes, (c) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(channel.name, { kind: 'lanes', base: c, offset: 0 });
        const weights = asm.address(this.#weights, c, tapElements * 4);
        for (const { first, count, repeats } of this.#blocks()) {
          const of = taps.slice(first, first + count);
          if (repeats === 1) {
            this.#scopes.bind(column.name, { kind: 'constant', value: first });
            this.#scopes.scope(() => this.#block(of, weights));
          } else {
            const end = this.#index(first + count * repeats);
            asm.loop(this.#index(first), end, count, (x) =>
              this.#scopes.scope(() => {
                this.#scopes.bind(column.name, { kind: 'register', reg: x });
                this.#block(of, weights);
              }),
            );
          }
        }
      }),
    );
  }

  /** Blocks of columns; neighbours of one size in which all taps are inside are one block repeated. */
  #blocks(): { readonly first: number; readonly count: number; readonly repeats: number }[] {
    const { taps, tap } = this.#plan;
    const isFull = (first: number, count: number): boolean =>
      taps.slice(first, first + count).every((inside) => inside.length === (tap?.extent ?? 1));
    const blocks: { first: number; count: number; repeats: number }[] = [];
    for (let first = 0; first < taps.length; first += this.#columns) {
      const count = Math.min(this.#columns, taps.length - first);
      const before = blocks.at(-1);
      if (before?.count === count && isFull(before.first, count) && isFull(first, count)) before.repeats++;
      else blocks.push({ first, count, repeats: 1 });
    }
    return blocks;
  }

  /** One vector of channels of the columns of a block, whose first one is bound. */
  #block(taps: Taps, weights: Reg): void {
    const asm = this.#asm;
    const zero = asm.const('vf32', 0);
    const acc = taps.map(() =>
      Array.from({ length: this.#turns }, () => {
        const reg = asm.reg('vf32');
        asm.move(reg, zero);
        return reg;
      }),
    );
    if (taps.some((inside) => inside.length > 0)) this.#tapLoops(this.#plan.outerTaps, taps, weights, acc);
    acc.forEach(([sum, turned], t) => {
      this.#finish(turned ? asm.op('add', [sum, asm.swapFours(turned)]) : sum, t);
    });
  }

  #tapLoops(axes: GroupedPlan['outerTaps'], taps: Taps, weights: Reg, acc: readonly (readonly Reg[])[]): void {
    const asm = this.#asm;
    if (axes.length > 0) {
      const inner = extentOf(axes.slice(1)) * (this.#plan.tap?.extent ?? 1) * this.#plan.per * asm.lanes * 4;
      asm.loop(this.#index(0), this.#index(axes[0].extent), 1, (i) =>
        this.#scopes.scope(() => {
          this.#scopes.bind(axes[0].name, { kind: 'register', reg: i });
          this.#tapLoops(axes.slice(1), taps, asm.address(weights, i, inner), acc);
        }),
      );
      return;
    }
    const { rowGuard } = this.#plan;
    const products = (): void => this.#products(taps, weights, acc);
    if (!rowGuard) products();
    else asm.if(this.#exprs.value(rowGuard), () => this.#scopes.scope(products));
  }

  /** One row of taps of all columns of a block. */
  #products(taps: Taps, weights: Reg, acc: readonly (readonly Reg[])[]): void {
    const asm = this.#asm;
    const { tap, columnStride, tapStride } = this.#plan;
    const elementOf = (t: number, k: number): number => t * columnStride + k * tapStride;
    const seen = [...new Set(taps.flatMap((inside, t) => inside.map((k) => elementOf(t, k))))].sort((a, b) => a - b);
    const { base, byteOffset } = this.#inputAddress(taps, seen[0]);
    const weightBytes = asm.lanes * 4;
    for (let lane = 0; lane < FOUR; lane++) {
      const inputs = new Map(
        seen.map((element) => {
          const x = asm.load('vf32', base, byteOffset + (element - seen[0]) * 4);
          return [element, asm.repeatLane(x, lane)] as const;
        }),
      );
      for (let k = 0; k < (tap?.extent ?? 1); k++) {
        if (!taps.some((inside) => inside.includes(k))) continue;
        for (let turn = 0; turn < this.#turns; turn++) {
          const at = (k * FOUR + lane) * this.#turns + turn;
          const weight = asm.load('vf32', weights, at * weightBytes);
          taps.forEach((inside, t) => {
            if (inside.includes(k)) asm.fma(acc[t][turn], inputs.get(elementOf(t, k)) as Reg, weight);
          });
        }
      }
    }
  }

  /** Of the first element that the block sees: what lies before it may be outside the buffer. */
  #inputAddress(taps: Taps, element: number): { base: Reg; byteOffset: number } {
    const { a, column, tap, columnStride, tapStride } = this.#plan;
    const t = taps.findIndex((inside, i) => inside.some((k) => i * columnStride + k * tapStride === element));
    const k = taps[t].find((tapOf) => t * columnStride + tapOf * tapStride === element) ?? 0;
    const shifted = exprMapper((x) => {
      if (x.kind !== 'axis') return x;
      return x.name === column.name && t > 0 ? e.add(x, e.index(t)) : x.name === tap?.name ? e.index(k) : x;
    });
    return this.#exprs.address(a.buffer, shifted(a.index));
  }

  #finish(sum: Reg, t: number): void {
    const { column, epilogue } = this.#plan;
    const shift = (x: Expr): Expr => (t > 0 && x.kind === 'axis' && x.name === column.name ? e.add(x, e.index(t)) : x);
    this.#scopes.bind(localKey('acc'), { kind: 'register', reg: sum });
    for (const s of mapStmts(epilogue, exprMapper(shift))) {
      if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
      else if (s.kind === 'let')
        this.#scopes.bind(localKey(s.local), { kind: 'register', reg: this.#exprs.value(s.value) });
    }
  }
}
