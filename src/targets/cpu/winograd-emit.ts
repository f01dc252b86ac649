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
import type { Expr, Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { rowsFor } from './contract-blocking.ts';
import { hasLimit } from './contract-plan.ts';
import { ExprEmitter } from './emit-expr.ts';
import type { Scopes } from './scopes.ts';
import { exprMapper, localKey, mapStmts } from './walk.ts';
import { type WinogradMatrices, winogradMatrices } from './winograd-matrices.ts';
import {
  blockWinograd,
  outerAxes,
  summedOf,
  type WinogradBlocking,
  type WinogradDepth,
  type WinogradPlan,
  type WinogradSide,
} from './winograd-plan.ts';
import { transformInput, transformOutput } from './winograd-transform.ts';

/** A row or a column of a tile's window: where it begins in the input, and whether it is inside; undefined: always. */
interface Line {
  /** In elements from the start of its side. */
  readonly offset: Reg;
  readonly inside: Reg | undefined;
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
  readonly #scratch: Reg;

  constructor(asm: Asm, kernel: Kernel, plan: WinogradPlan, params: Params) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#params = params;
    this.#blocking = blockWinograd(plan, params);
    this.#matrices = winogradMatrices(params.tile);
    this.#channels = plan.channel.extent;
    this.#summed = summedOf(plan);
    this.#vectorBytes = asm.lanes * 4;
    this.#scratch = asm.params[asm.params.length - 1];
  }

  /** unit = block of tiles · nBlocks + block of panels: a thread's units share blocks of tiles, which it transforms once. */
  run(): void {
    const asm = this.#asm;
    const { tiles, tilesInBlock, nBlocks, panels, panelsInBlock } = this.#blocking;
    const c = this.#index;
    for (const axis of this.#plan.fixed) this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
    const there = this.#tilesAtRunTime();
    const transformed = asm.reg('i32');
    asm.move(transformed, c(-1));
    asm.loop(asm.params[0], asm.params[1], 1, (unit) =>
      this.#scopes.scope(() => {
        const block = asm.op('div_u', [unit, c(nBlocks)]);
        const from = asm.op('mul', [block, c(tilesInBlock)]);
        const count = asm.op('min', [c(tilesInBlock), asm.op('sub', [there ?? c(tiles), from])]);
        const work = (): void => {
          asm.if(asm.op('ne', [block, transformed]), () =>
            this.#scopes.scope(() => {
              asm.move(transformed, block);
              this.#inputs(from, count);
            }),
          );
          const firstPanel = asm.op('mul', [asm.op('rem_u', [unit, c(nBlocks)]), c(panelsInBlock)]);
          const lastPanel = asm.op('min', [asm.op('add', [firstPanel, c(panelsInBlock)]), c(panels)]);
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
    const { y, x } = this.#plan;
    const outer = outerAxes(this.#plan);
    const axes = [...outer, y.axis, x.axis];
    if (!hasLimit(axes) && !y.limit && !x.limit) return undefined;
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
        const [rows, columns] = [this.#lines(y, row), this.#lines(x, column)];
        if (depth) this.#depth(depth, at[at.length - 1], image, rows, columns, out);
        else this.#window(image, rows, columns, out);
      }),
    );
  }

  /** The windows of all taps of the depth: zeros where one is outside. */
  #depth(
    { tap, pad, extent, stride, step, dilation }: WinogradDepth,
    first: Reg,
    image: Reg,
    rows: readonly Line[],
    columns: readonly Line[],
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
          () => this.#scopes.scope(() => this.#window(asm.address(image, z, stride * 4), rows, columns, own)),
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

  /** The rows or columns of the window of the tile whose output begins at `first`. */
  #lines(side: WinogradSide, first: Reg): readonly Line[] {
    const asm = this.#asm;
    const { tile } = this.#params;
    const last = Math.ceil(side.axis.extent / tile) * tile - tile;
    return Array.from({ length: this.#matrices.points }, (_, i) => {
      const shift = i - side.pad;
      const at = asm.op('add', [first, this.#index(shift)]);
      const isFixed = !side.axis.limit && !side.limit;
      const isInside = isFixed && shift >= 0 && last + shift < side.extent;
      const bound = { extent: side.extent, ...(side.limit && { limit: side.limit }) };
      return {
        offset: asm.op('mul', [at, this.#index(side.stride)]),
        // Unsigned: what lies before 0 is very large.
        inside: isInside ? undefined : asm.op('lt_u', [at, this.#exprs.value(e.boundOf(bound))]),
      };
    });
  }

  /** All channels of one tile. */
  #window(image: Reg, rows: readonly Line[], columns: readonly Line[], out: Reg): void {
    const asm = this.#asm;
    const { y, x } = this.#plan;
    const inside = [...rows, ...columns].flatMap((line) => line.inside ?? []);
    const interior = (): void => {
      const corner = asm.address(image, asm.op('add', [rows[0].offset, columns[0].offset]), 4);
      this.#eachVector((channel) => {
        const from = asm.address(corner, channel, 4);
        const load = (i: number, j: number) => asm.load('vf32', from, 4 * (i * y.stride + j * x.stride));
        this.#transformWindow(load, () => undefined, asm.address(out, channel, 4));
      });
    };
    const border = (): void => {
      this.#eachVector((channel) => {
        const from = asm.address(image, channel, 4);
        const load = (i: number, j: number): Reg => {
          const read = () =>
            asm.load('vf32', asm.address(from, asm.op('add', [rows[i].offset, columns[j].offset]), 4), 0);
          const guard = columns[j].inside;
          if (!guard) return read();
          const value = asm.reg('vf32');
          asm.if(
            guard,
            () => asm.move(value, read()),
            () => asm.move(value, asm.const('vf32', 0)),
          );
          return value;
        };
        this.#transformWindow(load, (i) => rows[i].inside, asm.address(out, channel, 4));
      });
    };
    if (inside.length === 0) interior();
    else {
      const all = inside.reduce((p, q) => asm.op('and', [p, q]));
      asm.if(
        all,
        () => this.#scopes.scope(interior),
        () => this.#scopes.scope(border),
      );
    }
  }

  #eachVector(body: (channel: Reg) => void): void {
    this.#asm.loop(this.#index(0), this.#index(this.#channels), this.#asm.lanes, (channel) =>
      this.#scopes.scope(() => body(channel)),
    );
  }

  /** V of one vector of channels: rows of the window first, by way of the scratch, then its columns. */
  #transformWindow(load: (i: number, j: number) => Reg, insideOf: (i: number) => Reg | undefined, out: Reg): void {
    const asm = this.#asm;
    const { points } = this.#matrices;
    const lines = Array.from({ length: points }, (_, i) => i);
    for (const i of lines) {
      const keep = (values: readonly Reg[]): void => {
        values.forEach((value, q) => {
          asm.store('vf32', this.#scratch, (i * points + q) * this.#vectorBytes, value);
        });
      };
      const transform = (): void =>
        keep(
          transformInput(
            asm,
            this.#matrices,
            lines.map((j) => load(i, j)),
          ),
        );
      const guard = insideOf(i);
      if (!guard) transform();
      else asm.if(guard, transform, () => keep(lines.map(() => asm.const('vf32', 0))));
    }
    for (const q of lines) {
      const column = lines.map((i) => asm.load('vf32', this.#scratch, (i * points + q) * this.#vectorBytes));
      transformInput(asm, this.#matrices, column).forEach((value, i) => {
        asm.store('vf32', out, (i * points + q) * this.#blocking.planeBytes, value);
      });
    }
  }

  #panels(firstPanel: Reg, lastPanel: Reg, count: Reg): void {
    const asm = this.#asm;
    const { width } = this.#params;
    const { panels } = this.#blocking;
    const c = this.#index;
    const full = Math.floor(this.#plan.n.extent / width);
    const tail = this.#plan.n.extent - full * width;
    const b = this.#exprs.address(this.#plan.b.buffer, e.index(0)).base;
    const panelBytes = this.#matrices.points ** 2 * this.#summed * width * 4;
    const one = (panel: Reg, columns: number): void => {
      this.#products(asm.address(b, panel, panelBytes), columns, count);
      this.#outputs(asm.op('mul', [panel, c(width)]), columns, count);
    };
    if (full > 0) {
      asm.loop(firstPanel, asm.op('min', [lastPanel, c(full)]), 1, (panel) =>
        this.#scopes.scope(() => one(panel, width)),
      );
    }
    if (tail > 0) {
      asm.if(asm.op('eq', [lastPanel, c(panels)]), () => this.#scopes.scope(() => one(c(full), tail)));
    }
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
    const pointer = (from: Reg): Reg => {
      const out = asm.reg('ptr');
      asm.move(out, from);
      return out;
    };
    const [v, u, m] = [this.#behind(this.#scratch, inputsAt), panel, this.#behind(this.#scratch, sumsAt)].map(pointer);
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
    const [from, weights] = [v, u].map((start) => {
      const out = asm.reg('ptr');
      asm.move(out, start);
      return out;
    });
    asm.repeat(this.#summed, () => {
      const b = acc[0].map((_, i) => asm.load('vf32', weights, i * this.#vectorBytes));
      acc.forEach((sums, row) => {
        const splat = asm.load('splatf32', from, row * this.#summed * 4);
        sums.forEach((sum, i) => {
          asm.fma(sum, splat, b[i]);
        });
      });
      this.#bump(from, 4);
      this.#bump(weights, width * 4);
    });
    const tileBytes = this.#matrices.points ** 2 * width * 4;
    acc.forEach((sums, row) => {
      sums.forEach((sum, i) => {
        asm.store('vf32', m, row * tileBytes + i * this.#vectorBytes, sum);
      });
    });
  }

  /** The outputs of all tiles of the block for `columns` columns from `first` on. */
  #outputs(first: Reg, columns: number, count: Reg): void {
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
        asm.loop(this.#index(0), this.#index(columns), asm.lanes, (column) =>
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
    const lines = Array.from({ length: points }, (_, i) => i);
    for (const i of lines) {
      const row = lines.map((j) => asm.load('vf32', sums, (i * points + j) * width * 4));
      transformOutput(asm, this.#matrices, row).forEach((value, q) => {
        asm.store('vf32', this.#scratch, (i * tile + q) * this.#vectorBytes, value);
      });
    }
    for (let q = 0; q < tile; q++) {
      this.#where(this.#plan.x, q, () => {
        const column = lines.map((i) => asm.load('vf32', this.#scratch, (i * tile + q) * this.#vectorBytes));
        transformOutput(asm, this.#matrices, column).forEach((value, r) => {
          this.#where(this.#plan.y, r, () => this.#finish(value, r, q));
        });
      });
    }
  }

  /** `body`, where the tile's line `offset` is inside the output. */
  #where(side: WinogradSide, offset: number, body: () => void): void {
    const asm = this.#asm;
    const rest = side.axis.extent % this.#params.tile;
    if (!side.axis.limit && (rest === 0 || offset < rest)) {
      body();
      return;
    }
    const at = asm.op('add', [this.#exprs.value(e.axis(side.axis.name)), this.#index(offset)]);
    asm.if(asm.op('lt', [at, this.#exprs.value(e.boundOf(side.axis))]), () => this.#scopes.scope(body));
  }

  #finish(sum: Reg, row: number, column: number): void {
    const { y, x, epilogue } = this.#plan;
    const shift = (axis: Expr & { kind: 'axis' }): number =>
      axis.name === y.axis.name ? row : axis.name === x.axis.name ? column : 0;
    const shifted = exprMapper((node) =>
      node.kind === 'axis' && shift(node) > 0 ? e.add(node, e.index(shift(node))) : node,
    );
    this.#scopes.bind(localKey('acc'), { kind: 'register', reg: sum });
    for (const s of mapStmts(epilogue, shifted)) {
      if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
      else if (s.kind === 'let') {
        this.#scopes.bind(localKey(s.local), { kind: 'register', reg: this.#exprs.value(s.value) });
      }
    }
  }
}
