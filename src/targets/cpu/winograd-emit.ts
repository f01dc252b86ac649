/**
 * A convolution by Winograd's method: each unit of work transforms a block of input tiles, multiplies, transforms back.
 *
 *     for block of tiles:   V[point][tile][channel] = Bᵀ d B                             (where the thread has not just done it)
 *       for panel of n:     M[tile][point][column] = V[point] · U[panel][point]          (a matrix product a point)
 *                           y[tile] = Aᵀ M A, then the epilogue
 *
 * V, M and a tile's intermediate values lie in the thread's scratch: V stays in the second-level cache while the panels of U, which are
 * larger, pass by once a block. Tiles at the border read zeros where they leave the input, and store only what is in the output.
 */
import * as e from '../../loop/expr.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { rowsFor } from './contract-blocking.ts';
import { ExprEmitter } from './emit-expr.ts';
import { presentRange } from './present-tiles.ts';
import type { Scopes } from './scopes.ts';
import { unrollOf } from './vector-machine.ts';
import { localKey } from './walk.ts';
import { type WinogradMatrices, winogradMatrices } from './winograd-matrices.ts';
import {
  blockPresent,
  blockWinograd,
  isFar,
  isOpen,
  outerAxes,
  summedOf,
  type WinogradBlocking,
  type WinogradDepth,
  type WinogradPlan,
  type WinogradSide,
} from './winograd-plan.ts';
import { transformInput, transformOutput } from './winograd-transform.ts';

const LINE_BYTES = 64;

/** A column of a tile's window: where it begins in the input, and whether it is inside; undefined: always. */
interface Line {
  /** In elements from the start of its side. */
  readonly offset: Reg;
  readonly inside: Reg | undefined;
}

/** A tile's window of the input. */
interface Window {
  /** Its first row, which may lie before the input. */
  readonly top: Reg;
  readonly columns: readonly Line[];
  /** Whether it is inside everywhere; undefined: always. */
  readonly isInside: Reg | undefined;
}

export class WinogradEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: WinogradPlan;
  readonly #params: Params;
  readonly #blocking: WinogradBlocking;
  readonly #matrices: WinogradMatrices;
  readonly #channels: number;
  /** Channels of all taps of the depth. */
  readonly #summed: number;
  readonly #vectorBytes: number;
  /** Whether weights come from afar: those of the next point, which lie behind a point's, are asked for while it is multiplied. */
  readonly #fetchesAhead: boolean;
  readonly #scratch: Reg;
  /** Numbers of a window's rows, or columns. */
  readonly #lines: readonly number[];

  constructor(asm: Asm, kernel: Kernel, plan: WinogradPlan, params: Params) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#params = params;
    this.#blocking = blockWinograd(plan, params);
    this.#matrices = winogradMatrices(params.tile, plan.step);
    this.#channels = plan.channel.extent;
    this.#summed = summedOf(plan);
    this.#vectorBytes = asm.lanes * 4;
    this.#fetchesAhead = isFar(plan, params);
    this.#scratch = asm.params[asm.params.length - 1];
    this.#lines = Array.from({ length: this.#matrices.points }, (_, i) => i);
  }

  /** unit = block of tiles · nBlocks + block of panels: a thread's units share blocks of tiles, which it transforms once. */
  run(): void {
    const asm = this.#asm;
    const { tiles, tBlocks, nBlocks, panels } = this.#blocking;
    const c = this.#index;
    for (const axis of this.#plan.fixed) this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
    const there = this.#tilesAtRunTime();
    const present = there && blockPresent(asm, this.#plan, this.#params, there);
    const { begin, end } = present
      ? presentRange(asm, present.units, tBlocks * nBlocks)
      : { begin: asm.params[0], end: asm.params[1] };
    const inBlock = present?.tilesInBlock ?? c(this.#blocking.tilesInBlock);
    const panelsInBlock = present?.panelsInBlock ?? c(this.#blocking.panelsInBlock);
    const blocksOfPanels = present?.nBlocks ?? c(nBlocks);
    const transformed = asm.reg('i32');
    asm.move(transformed, c(-1));
    asm.loop(begin, end, 1, (unit) =>
      this.#scopes.scope(() => {
        const block = asm.op('div_u', [unit, blocksOfPanels]);
        const from = asm.op('mul', [block, inBlock]);
        const count = asm.op('min', [inBlock, asm.op('sub', [there ?? c(tiles), from])]);
        const work = (): void => {
          asm.if(asm.op('ne', [block, transformed]), () =>
            this.#scopes.scope(() => {
              asm.move(transformed, block);
              this.#inputs(from, count);
            }),
          );
          const firstPanel = asm.op('mul', [asm.op('rem_u', [unit, blocksOfPanels]), panelsInBlock]);
          const lastPanel = asm.op('min', [asm.op('add', [firstPanel, panelsInBlock]), c(panels)]);
          this.#panels(firstPanel, lastPanel, count);
        };
        if (there) asm.if(asm.op('lt', [from, there]), () => this.#scopes.scope(work));
        else work();
      }),
    );
  }

  /** Tiles along a side: a number, or the register of as many as its limit leaves. */
  #along({ axis }: WinogradSide): Reg {
    const { tile } = this.#params;
    const up = e.add(e.boundOf(axis), e.index(tile - 1));
    return this.#exprs.value(e.binary('floordiv', up, e.index(tile)));
  }

  /** All tiles that there are; undefined where no axis has a limit. Registers of limits are made here, before the loops. */
  #tilesAtRunTime(): Reg | undefined {
    if (!isOpen(this.#plan)) return undefined;
    const { y, x } = this.#plan;
    const outer = outerAxes(this.#plan);
    const axes = [...outer, y.axis, x.axis];
    for (const { extent, limit } of [...axes, y, x]) this.#exprs.value(e.boundOf({ extent, ...(limit && { limit }) }));
    const counts = [...outer.map((axis) => this.#exprs.value(e.boundOf(axis))), this.#along(y), this.#along(x)];
    return counts.reduce((a, b) => this.#asm.op('mul', [a, b]));
  }

  readonly #index = (value: number): Reg => this.#asm.const('i32', value);

  /** `byteOffset` behind an address, as an address. */
  #behind(base: Reg, byteOffset: number): Reg {
    return byteOffset === 0 ? base : this.#asm.address(base, this.#index(byteOffset), 1);
  }

  /** Coordinates of the tiles from `from` on, and their inputs transformed. */
  #inputs(from: Reg, count: Reg): void {
    const asm = this.#asm;
    const { images, y, x, depth, start, a } = this.#plan;
    const { across, down, coordsAt, inputsAt } = this.#blocking;
    const c = this.#index;
    const input = this.#exprs.address(a, e.index(0)).base;
    asm.loop(c(0), count, 1, (t) =>
      this.#scopes.scope(() => {
        let rest = asm.op('add', [from, t]);
        const next = (extent: Reg): Reg => {
          const coord = asm.op('rem_u', [rest, extent]);
          rest = asm.op('div_u', [rest, extent]);
          return coord;
        };
        const tile = c(this.#params.tile);
        const column = asm.op('mul', [next(x.axis.limit ? this.#along(x) : c(across)), tile]);
        const row = asm.op('mul', [next(y.axis.limit ? this.#along(y) : c(down)), tile]);
        const outer = outerAxes(this.#plan);
        const at = outer
          .toReversed()
          .map((axis) => next(this.#exprs.value(e.boundOf(axis))))
          .reverse();
        const coords = asm.address(this.#behind(this.#scratch, coordsAt), t, 4 * (outer.length + 2));
        [row, column, ...at].forEach((coord, i) => {
          asm.store('i32', coords, 4 * i, coord);
        });
        const origin = images.reduce(
          (sum, { stride }, i) => asm.op('add', [sum, asm.op('mul', [at[i], c(stride)])]),
          c(start),
        );
        const image = asm.address(input, origin, 4);
        const out = asm.address(this.#behind(this.#scratch, inputsAt), t, this.#summed * 4);
        const window = this.#window(row, column);
        if (depth) this.#depth(depth, at[at.length - 1], image, window, out);
        else this.#transform(image, window, out);
      }),
    );
  }

  /** The windows of all taps of the depth: zeros where one is outside. */
  #depth(
    { tap, pad, extent, stride, step, dilation }: WinogradDepth,
    first: Reg,
    image: Reg,
    window: Window,
    out: Reg,
  ): void {
    const asm = this.#asm;
    const c = this.#index;
    const begin = asm.op('sub', [asm.op('mul', [first, c(step)]), c(pad)]);
    asm.loop(c(0), c(tap.extent), 1, (k) =>
      this.#scopes.scope(() => {
        const z = asm.op('add', [begin, asm.op('mul', [k, c(dilation)])]);
        const own = asm.address(out, k, this.#channels * 4);
        asm.if(
          asm.op('lt_u', [z, c(extent)]),
          () => this.#scopes.scope(() => this.#transform(asm.address(image, z, stride * 4), window, own)),
          () => this.#eachVector((channel) => this.#zeroPoints(asm.address(own, channel, 4))),
        );
      }),
    );
  }

  /** Zeros in one vector of each point of V. */
  #zeroPoints(out: Reg): void {
    const zero = this.#asm.const('vf32', 0);
    for (let point = 0; point < this.#matrices.points ** 2; point++) {
      this.#asm.store('vf32', out, point * this.#blocking.planeBytes, zero);
    }
  }

  /** The window of the tile whose output begins at a row and a column. */
  #window(row: Reg, column: Reg): Window {
    const asm = this.#asm;
    const { y, x, step } = this.#plan;
    const last = this.#matrices.points - 1;
    const at = (side: WinogradSide, first: Reg, i: number): Reg => {
      const begin = step === 1 ? first : asm.op('mul', [first, this.#index(step)]);
      return asm.op('add', [begin, this.#index(i - side.pad)]);
    };
    const columns = Array.from({ length: last + 1 }, (_, i): Line => {
      const from = at(x, column, i);
      const inside = this.#isAlwaysInside(x, i) ? undefined : this.#isInside(x, from);
      return { offset: asm.op('mul', [from, this.#index(x.stride)]), inside };
    });
    const top = at(y, row, 0);
    const rows = [0, last].flatMap((i) =>
      this.#isAlwaysInside(y, i) ? [] : [this.#isInside(y, i === 0 ? top : at(y, row, i))],
    );
    const ends = [...rows, ...[0, last].flatMap((i) => columns[i].inside ?? [])];
    return { top, columns, isInside: ends.length === 0 ? undefined : ends.reduce((p, q) => asm.op('and', [p, q])) };
  }

  /** Whether line `i` of the windows of all tiles lies in the input. */
  #isAlwaysInside(side: WinogradSide, i: number): boolean {
    const { tile } = this.#params;
    const last = (Math.ceil(side.axis.extent / tile) * tile - tile) * this.#plan.step;
    const shift = i - side.pad;
    return !side.axis.limit && !side.limit && shift >= 0 && last + shift < side.extent;
  }

  /** Unsigned: what lies before 0 is very large. */
  #isInside({ extent, limit }: WinogradSide, at: Reg): Reg {
    return this.#asm.op('lt_u', [at, this.#exprs.value(e.boundOf({ extent, ...(limit && { limit }) }))]);
  }

  /** V of all channels of one tile, a vector of channels after the other: rows of the window by way of the scratch, then its columns. */
  #transform(image: Reg, window: Window, out: Reg): void {
    const asm = this.#asm;
    const { top, columns, isInside } = window;
    const row = asm.op('mul', [top, this.#index(this.#plan.y.stride)]);
    const corner = asm.address(image, asm.op('add', [row, columns[0].offset]), 4);
    this.#eachVector((channel) => {
      const interior = (): void => this.#innerRows(asm.address(corner, channel, 4));
      if (isInside)
        asm.if(
          isInside,
          () => this.#scopes.scope(interior),
          () => this.#scopes.scope(() => this.#borderRows(asm.address(image, channel, 4), window)),
        );
      else interior();
      this.#columns(asm.address(out, channel, 4));
    });
  }

  #eachVector(body: (channel: Reg) => void): void {
    this.#asm.loop(this.#index(0), this.#index(this.#channels), this.#asm.lanes, (channel) =>
      this.#scopes.scope(() => body(channel)),
    );
  }

  /** Rows of a window whose elements are all there. */
  #innerRows(corner: Reg): void {
    const asm = this.#asm;
    const { y, x } = this.#plan;
    const from = this.#pointer(corner);
    this.#eachRow(() => {
      const row = this.#lines.map((j) => asm.load('vf32', from, 4 * j * x.stride));
      this.#bump(from, 4 * y.stride);
      return transformInput(asm, this.#matrices, row);
    });
  }

  /** Rows of a window with zeros where it leaves the input. */
  #borderRows(image: Reg, { top, columns }: Window): void {
    const asm = this.#asm;
    const { y } = this.#plan;
    const at = asm.reg('i32');
    asm.move(at, top);
    const zero = asm.const('vf32', 0);
    this.#eachRow(() => {
      const values = this.#lines.map(() => asm.reg('vf32'));
      for (const value of values) asm.move(value, zero);
      asm.if(this.#isInside(y, at), () =>
        this.#scopes.scope(() => {
          const row = asm.op('mul', [at, this.#index(y.stride)]);
          columns.forEach(({ offset, inside }, j) => {
            const read = (): void =>
              void asm.load('vf32', asm.address(image, asm.op('add', [row, offset]), 4), 0, values[j]);
            if (inside) asm.if(inside, read);
            else read();
          });
        }),
      );
      asm.op('add', [at, this.#index(1)], at);
      return transformInput(asm, this.#matrices, values);
    });
  }

  /** Stores what `row` makes of each row in turn. */
  #eachRow(row: () => readonly Reg[]): void {
    const asm = this.#asm;
    const to = this.#pointer(this.#scratch);
    asm.repeat(this.#matrices.points, () =>
      this.#scopes.scope(() => {
        row().forEach((value, q) => {
          asm.store('vf32', to, q * this.#vectorBytes, value);
        });
        this.#bump(to, this.#matrices.points * this.#vectorBytes);
      }),
    );
  }

  #columns(out: Reg): void {
    const asm = this.#asm;
    const { points } = this.#matrices;
    const [from, to] = [this.#pointer(this.#scratch), this.#pointer(out)];
    asm.repeat(points, () =>
      this.#scopes.scope(() => {
        const column = this.#lines.map((i) => asm.load('vf32', from, i * points * this.#vectorBytes));
        transformInput(asm, this.#matrices, column).forEach((value, i) => {
          asm.store('vf32', to, i * points * this.#blocking.planeBytes, value);
        });
        this.#bump(from, this.#vectorBytes);
        this.#bump(to, this.#blocking.planeBytes);
      }),
    );
  }

  #panels(firstPanel: Reg, lastPanel: Reg, count: Reg): void {
    const asm = this.#asm;
    const { width } = this.#params;
    const c = this.#index;
    const full = Math.floor(this.#plan.n.extent / width);
    const tail = this.#plan.n.extent - full * width;
    const b = this.#exprs.address(this.#plan.b.buffer, e.index(0)).base;
    const panelBytes = this.#matrices.points ** 2 * this.#summed * width * 4;
    asm.loop(firstPanel, lastPanel, 1, (panel) =>
      this.#scopes.scope(() => {
        const weights = asm.address(b, panel, panelBytes);
        const products = (columns: number) => () => this.#scopes.scope(() => this.#products(weights, columns, count));
        if (tail === 0 || full === 0) products(tail || width)();
        else asm.if(asm.op('lt', [panel, c(full)]), products(width), products(tail));
        const first = asm.op('mul', [panel, c(width)]);
        const left = asm.op('sub', [c(this.#plan.n.extent), first]);
        this.#outputs(first, tail === 0 ? c(width) : asm.op('min', [c(width), left]), count);
      }),
    );
  }

  /** M of all tiles of the block for one panel: for each point V[point] · U[panel][point]. */
  #products(panel: Reg, columns: number, count: Reg): void {
    const asm = this.#asm;
    const { width } = this.#params;
    const { points } = this.#matrices;
    const { tiles, inputsAt, sumsAt, planeBytes } = this.#blocking;
    const rows = rowsFor(columns, this.#params);
    const rest = tiles % rows;
    const whole = rest === 0 ? count : asm.op('sub', [count, asm.op('rem_u', [count, this.#index(rows)])]);
    // With limits the count may be any: the last rows go by tiles of half as many and so on.
    const counted = this.#tilesAtRunTime() === undefined ? undefined : this.#halvings(count, rows);
    const [v, u, m] = [this.#behind(this.#scratch, inputsAt), panel, this.#behind(this.#scratch, sumsAt)].map((start) =>
      this.#pointer(start),
    );
    const tileBytes = points ** 2 * width * 4;
    const product = (t: Reg, height: number): void =>
      this.#product(asm.address(v, t, this.#summed * 4), u, asm.address(m, t, tileBytes), height, columns);
    asm.repeat(points ** 2, () =>
      this.#scopes.scope(() => {
        for (const { from, to, step } of counted ?? [{ from: this.#index(0), to: whole, step: rows }])
          asm.loop(from, to, step, (t) => this.#scopes.scope(() => product(t, step)));
        if (!counted && rest > 0)
          asm.if(asm.op('lt', [whole, count]), () => this.#scopes.scope(() => product(whole, rest)));
        this.#bump(v, planeBytes);
        this.#bump(u, this.#summed * width * 4);
        this.#bump(m, width * 4);
      }),
    );
  }

  /** [0, count) in stretches: multiples of `rows`, then of half of it, down to 1. */
  #halvings(count: Reg, rows: number): { readonly from: Reg; readonly to: Reg; readonly step: number }[] {
    const asm = this.#asm;
    const stretches: { from: Reg; to: Reg; step: number }[] = [];
    let from = this.#index(0);
    for (let step = rows; step > 0; step = Math.floor(step / 2)) {
      const steps = asm.op('div_u', [asm.op('sub', [count, from]), this.#index(step)]);
      const to = asm.op('add', [from, asm.op('mul', [steps, this.#index(step)])]);
      stretches.push({ from, to, step });
      from = to;
    }
    return stretches;
  }

  /** A register that begins at an address and moves. */
  #pointer(from: Reg): Reg {
    const out = this.#asm.reg('ptr');
    this.#asm.move(out, from);
    return out;
  }

  #bump(pointer: Reg, bytes: number): void {
    this.#asm.op('add', [pointer, this.#asm.const('ptr', bytes)], pointer);
  }

  /** `rows` tiles × `columns` of one point, over all channels. */
  #product(v: Reg, u: Reg, m: Reg, rows: number, columns: number): void {
    const asm = this.#asm;
    const { width } = this.#params;
    const vectors = columns / asm.lanes;
    const zero = asm.const('vf32', 0);
    const acc = Array.from({ length: rows }, () =>
      Array.from({ length: vectors }, () => {
        const reg = asm.reg('vf32');
        asm.move(reg, zero);
        return reg;
      }),
    );
    const [from, weights] = [v, u].map((start) => this.#pointer(start));
    const rowBytes = width * 4;
    const step = (k: number): void => {
      const b = acc[0].map((_, i) => asm.load('vf32', weights, k * rowBytes + i * this.#vectorBytes));
      if (this.#fetchesAhead)
        for (let at = 0; at < rowBytes; at += LINE_BYTES) asm.prefetch(weights, (this.#summed + k) * rowBytes + at);
      acc.forEach((sums, row) => {
        const splat = asm.load('splatf32', from, row * this.#summed * 4 + k * 4);
        sums.forEach((sum, i) => {
          asm.fma(sum, splat, b[i]);
        });
      });
    };
    const unroll = unrollOf(asm.lanes, rows * vectors, this.#summed);
    asm.repeat(this.#summed / unroll, () => {
      for (let k = 0; k < unroll; k++) step(k);
      this.#bump(from, unroll * 4);
      this.#bump(weights, unroll * rowBytes);
    });
    const tileBytes = this.#matrices.points ** 2 * width * 4;
    acc.forEach((sums, row) => {
      sums.forEach((sum, i) => {
        asm.store('vf32', m, row * tileBytes + i * this.#vectorBytes, sum);
      });
    });
  }

  /** The outputs of all tiles of the block for `columns` columns from `first` on. */
  #outputs(first: Reg, columns: Reg, count: Reg): void {
    const asm = this.#asm;
    const { y, x, n, epilogue } = this.#plan;
    const outer = outerAxes(this.#plan);
    const { coordsAt, sumsAt } = this.#blocking;
    const tileBytes = this.#matrices.points ** 2 * this.#params.width * 4;
    asm.loop(this.#index(0), count, 1, (t) =>
      this.#scopes.scope(() => {
        const coords = asm.address(this.#behind(this.#scratch, coordsAt), t, 4 * (outer.length + 2));
        [y.axis, x.axis, ...outer].forEach(({ name }, i) => {
          this.#scopes.bind(name, { kind: 'register', reg: asm.load('i32', coords, 4 * i) });
        });
        const sums = asm.address(this.#behind(this.#scratch, sumsAt), t, tileBytes);
        asm.loop(this.#index(0), columns, asm.lanes, (column) =>
          this.#scopes.scope(() => {
            const base = asm.op('add', [first, column]);
            this.#scopes.bind(n.name, { kind: 'lanes', base, offset: 0 });
            this.#exprs.prepare(epilogue, [localKey('acc'), y.axis.name, x.axis.name]);
            this.#output(asm.address(sums, column, 4));
          }),
        );
      }),
    );
  }

  /** One vector of columns of one tile: rows of M first, by way of the scratch, then its columns. */
  #output(sums: Reg): void {
    const asm = this.#asm;
    const { tile, width } = this.#params;
    const { points } = this.#matrices;
    const { y, x } = this.#plan;
    const [from, to] = [this.#pointer(sums), this.#pointer(this.#scratch)];
    asm.repeat(points, () =>
      this.#scopes.scope(() => {
        const row = this.#lines.map((j) => asm.load('vf32', from, j * width * 4));
        transformOutput(asm, this.#matrices, row).forEach((value, q) => {
          asm.store('vf32', to, q * this.#vectorBytes, value);
        });
        this.#bump(from, points * width * 4);
        this.#bump(to, tile * this.#vectorBytes);
      }),
    );
    const first = this.#exprs.value(e.axis(x.axis.name));
    const column = this.#pointer(this.#scratch);
    asm.loop(this.#index(0), this.#index(tile), 1, (q) =>
      this.#scopes.scope(() => {
        const at = asm.op('add', [first, q]);
        this.#scopes.bind(x.axis.name, { kind: 'register', reg: at });
        const outputs = (): void => {
          const values = this.#lines.map((i) => asm.load('vf32', column, i * tile * this.#vectorBytes));
          transformOutput(asm, this.#matrices, values).forEach((value, r) => {
            this.#scopes.shift(y.axis.name, r);
            this.#where(y, r, () => this.#finish(value));
          });
        };
        this.#where(x, tile - 1, outputs);
        this.#bump(column, this.#vectorBytes);
      }),
    );
  }

  /** `body`, where the line that the side's axis is at is inside the output; it is the tile's line `offset` at most. */
  #where(side: WinogradSide, offset: number, body: () => void): void {
    const rest = side.axis.extent % this.#params.tile;
    if (!side.axis.limit && (rest === 0 || offset < rest)) {
      body();
      return;
    }
    const at = this.#exprs.value(e.axis(side.axis.name));
    const isThere = this.#asm.op('lt', [at, this.#exprs.value(e.boundOf(side.axis))]);
    this.#asm.if(isThere, () => this.#scopes.scope(body));
  }

  /** The epilogue of one sum. */
  #finish(sum: Reg): void {
    this.#scopes.bind(localKey('acc'), { kind: 'register', reg: sum });
    for (const s of this.#plan.epilogue) {
      if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
      else if (s.kind === 'let') {
        this.#scopes.bind(localKey(s.local), { kind: 'register', reg: this.#exprs.value(s.value) });
      }
    }
  }
}
