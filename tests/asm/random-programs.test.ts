/**
 * Random programs over every assembler against the definition: registers written many times, values used once or often, far and
 * near, in nested loops and branches. This is what register assignment and the stack code of a target must survive.
 */
import { describe, expect, test } from 'vitest';
import type { Asm, AsmOp, MemType, Reg, RegType } from '../../src/targets/cpu/asm.ts';
import { EvalAsm } from './eval-asm.ts';
import { runWasm } from './wasm-runner.ts';
import { runX64, withoutWideX64, withoutX64 } from './x64-runner.ts';

type Program = (asm: Asm) => void;
/** A register of the program by number; the assembler's own registers are made anew where a loop's body is called again. */
type Slot = number;
type Play = (asm: Asm, slots: Reg[]) => void;

type Run = (program: Program, memory: ArrayBuffer, args: readonly number[]) => void;
interface Runner {
  readonly name: string;
  readonly lanes: number;
  readonly absent: string | undefined;
  readonly run: Run;
}
const RUNNERS: readonly Runner[] = [
  { name: 'wasm-simd128', lanes: 4, absent: undefined, run: (p, memory, args) => runWasm(p, memory, args, false) },
  { name: 'wasm-relaxed', lanes: 4, absent: undefined, run: (p, memory, args) => runWasm(p, memory, args, true) },
  {
    name: `x64-avx2${withoutX64 ? ` (skipped: ${withoutX64})` : ''}`,
    lanes: 8,
    absent: withoutX64,
    run: runX64,
  },
  {
    name: `x64-avx512${withoutWideX64 ? ` (skipped: ${withoutWideX64})` : ''}`,
    lanes: 16,
    absent: withoutWideX64,
    run: (p, memory, args) => runX64(p, memory, args, 16),
  },
];
const TYPES: readonly RegType[] = ['i32', 'i64', 'f32', 'f64', 'vf32', 'vi32'];
const INT_OPS: readonly AsmOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'rem_u',
  'min',
  'max',
  'neg',
  'abs',
  'and',
  'or',
  'xor',
  'not',
  'shl',
  'shr',
  'shr_u',
]; // prettier-ignore
const FLOAT_OPS: readonly AsmOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'min',
  'max',
  'neg',
  'abs',
  'sqrt',
  'floor',
  'nearest',
];
const COMPARES: readonly AsmOp[] = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'];
const UNARY: ReadonlySet<AsmOp> = new Set(['neg', 'abs', 'sqrt', 'floor', 'nearest', 'not']);
const CONVERSIONS: readonly (readonly [RegType, RegType])[] = [
  ['i32', 'i64'],
  ['i64', 'i32'],
  ['i32', 'f32'],
  ['f32', 'i32'],
  ['i64', 'f64'],
  ['f64', 'i64'],
  ['f32', 'f64'],
  ['f64', 'f32'],
  ['vi32', 'vf32'],
  ['vf32', 'vi32'],
]; // prettier-ignore
const ROOTS = 3;
/** Room for the longest vector. */
const SLOT_BYTES = 32;
const LANES = [0, 1, 2, 3, 4, 5, 6, 7];
const SCRATCH = 1024;
const OUT = 8192;

/** Mulberry32: numbers in [0, 1) from a seed. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Makes statements; a register made inside a block is not known outside it. */
class Generator {
  readonly #random: () => number;
  #slots = 0;
  readonly #scope = new Map<RegType, Slot[]>();
  readonly roots = new Map<RegType, Slot[]>();

  constructor(seed: number) {
    this.#random = generator(seed);
    for (const type of TYPES) this.#scope.set(type, []);
    for (const type of TYPES)
      this.roots.set(
        type,
        Array.from({ length: ROOTS }, () => this.#fresh(type)),
      );
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }
  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)];
  }
  #fresh(type: RegType): Slot {
    this.#scope.get(type)!.push(this.#slots);
    return this.#slots++;
  }
  /** Mostly a recent register, so that chains form. */
  #use(type: RegType): Slot {
    const known = this.#scope.get(type)!;
    return this.#random() < 0.6 ? known[known.length - 1 - this.#below(Math.min(3, known.length))] : this.#pick(known);
  }

  block(length: number, depth: number): Play[] {
    const sizes = new Map(TYPES.map((type) => [type, this.#scope.get(type)!.length]));
    const out = Array.from({ length }, () => this.#statement(depth));
    for (const [type, size] of sizes) this.#scope.get(type)!.length = size;
    return out;
  }

  #statement(depth: number): Play {
    const kind = this.#below(depth > 0 ? 16 : 13);
    const type = this.#pick(TYPES);
    const isVector = type === 'vf32' || type === 'vi32';
    const isFloat = type === 'f32' || type === 'f64' || type === 'vf32';
    switch (kind) {
      case 0: {
        const [from, to] = [this.#use(type), this.#pick(this.roots.get(type)!)];
        return (asm, s) => asm.move(s[to], s[from]);
      }
      case 1: {
        const value = this.#below(200) - 100;
        const into = this.#fresh(type);
        return (asm, s) => {
          s[into] = asm.const(type, value);
        };
      }
      case 2: {
        const [from, to] = this.#pick(CONVERSIONS);
        const x = this.#use(from);
        const into = this.#fresh(to);
        return (asm, s) => {
          s[into] = asm.convert(to, s[x]);
        };
      }
      case 3: {
        const compare = this.#pick(COMPARES);
        const [a, b] = [this.#use(type), this.#use(type)];
        const into = this.#fresh(type);
        return (asm, s) => {
          s[into] = asm.select(asm.op(compare, [s[a], s[b]]), s[a], s[b]);
        };
      }
      case 4: {
        const [at, x] = [SCRATCH + SLOT_BYTES * this.#below(16), this.#use(type)];
        return (asm, s) => asm.store(type as MemType, asm.params[2], at, s[x]);
      }
      case 5: {
        const at = SCRATCH + 1024 + SLOT_BYTES * this.#below(16);
        const into = this.#fresh('i32');
        return (asm, s) => {
          s[into] = asm.load('i32', asm.params[2], at);
        };
      }
      case 6: {
        const vector = this.#pick(['vf32', 'vi32'] as const);
        const [x, lane] = [this.#use(vector), this.#below(4)];
        const value = this.#use(vector === 'vf32' ? 'f32' : 'i32');
        const into = this.#fresh(vector);
        const combined = this.#fresh(vector === 'vf32' ? 'f32' : 'i32');
        return (asm, s) => {
          s[into] = asm.op('min', [asm.insert(s[x], lane, s[value]), asm.splat(asm.extract(s[x], 3 - lane))]);
          s[combined] = asm.horizontal('max', s[into]);
        };
      }
      case 13: {
        const count = this.#below(4);
        const counter = this.#fresh('i32');
        const [a, b] = [this.#use('i32'), this.#use('i32')];
        const asks = this.#random() < 0.3;
        const body = this.block(this.#below(8) + 1, depth - 1);
        this.#scope.get('i32')!.pop();
        return (asm, s) => {
          const bind = (i: Reg): void => {
            s[counter] = i;
          };
          const goesOn = (i: Reg): Reg => {
            bind(i);
            return asm.op('le', [s[a], s[b]]);
          };
          asm.loop(
            asm.const('i32', 0),
            asm.convert('i32', asm.const('i32', count)),
            1,
            (i) => {
              bind(i);
              play(body, asm, s);
            },
            asks ? goesOn : undefined,
          );
        };
      }
      case 14: {
        const body = this.block(this.#below(6) + 1, depth - 1);
        const count = this.#below(3);
        return (asm, s) => asm.repeat(count, () => play(body, asm, s));
      }
      case 15: {
        const [a, b] = [this.#use('i32'), this.#use('i32')];
        const [then, otherwise] = [this.block(this.#below(5) + 1, depth - 1), this.block(this.#below(5), depth - 1)];
        const both = this.#random() < 0.5;
        return (asm, s) =>
          asm.if(
            asm.op('lt', [s[a], s[b]]),
            () => play(then, asm, s),
            both ? () => play(otherwise, asm, s) : undefined,
          );
      }
      default: {
        const op = this.#pick(isFloat ? FLOAT_OPS : INT_OPS);
        const shifts = op === 'shl' || op === 'shr' || op === 'shr_u';
        const [a, b] = [this.#use(type), this.#use(shifts && isVector ? 'i32' : type)];
        const into = this.#random() < 0.4 ? this.#pick(this.roots.get(type)!) : undefined;
        const fresh = into ?? this.#fresh(type);
        return (asm, s) => {
          const args = UNARY.has(op) ? [s[a]] : [s[a], s[b]];
          if (into === undefined) s[fresh] = asm.op(op, args);
          else asm.op(op, args, s[into]);
        };
      }
    }
  }
}

function play(body: readonly Play[], asm: Asm, slots: Reg[]): void {
  for (const statement of body) statement(asm, slots);
}

/** Roots start from memory and end in it. */
function randomProgram(seed: number): Program {
  const source = new Generator(seed);
  const body = source.block(40, 3);
  return (asm) => {
    const slots: Reg[] = [];
    let at = 0;
    for (const [type, roots] of source.roots) {
      for (const slot of roots) {
        slots[slot] = asm.reg(type);
        asm.load(type as MemType, asm.params[2], at, slots[slot]);
        at += SLOT_BYTES;
      }
    }
    play(body, asm, slots);
    at = OUT;
    for (const [type, roots] of source.roots) {
      for (const slot of roots) {
        asm.store(type as MemType, asm.params[2], at, slots[slot]);
        at += SLOT_BYTES;
      }
    }
  };
}

function memoryFor(seed: number): ArrayBuffer {
  const memory = new ArrayBuffer(16384);
  const random = generator(seed ^ 0x5bd1e995);
  TYPES.forEach((type, t) => {
    for (let root = 0; root < ROOTS; root++) {
      const at = SLOT_BYTES * (t * ROOTS + root);
      const number = (): number => Math.floor((random() - 0.5) * 2000) / 8;
      if (type === 'i64') new BigInt64Array(memory, at, 1)[0] = BigInt(Math.floor(number() * 2 ** 40));
      else if (type === 'f64') new Float64Array(memory, at, 1)[0] = number();
      else if (type === 'f32' || type === 'vf32') new Float32Array(memory, at, 8).set(LANES.map(number));
      else new Int32Array(memory, at, 8).set(LANES.map(() => number() * 2 ** 20));
    }
  });
  return memory;
}

/** What the memory holds, root by root and word by word, every NaN printed alike. */
function contents(memory: ArrayBuffer): string {
  const outs = TYPES.flatMap((type, t) => {
    const elements = { i64: BigInt64Array, f64: Float64Array, f32: Float32Array, vf32: Float32Array } as const;
    const array = elements[type as 'i64'] ?? Int32Array;
    return Array.from({ length: ROOTS }, (_, root) => {
      const values: ArrayLike<unknown> = new array(
        memory,
        OUT + SLOT_BYTES * (t * ROOTS + root),
        SLOT_BYTES / array.BYTES_PER_ELEMENT,
      );
      return `${type} ${Array.from(values, (x) => (Object.is(x, -0) ? '-0' : String(x))).join(' ')}`;
    });
  });
  return outs.join('\n');
}

function agree({ run, lanes }: Runner, program: Program, seed: number): void {
  const [expected, got] = [memoryFor(seed), memoryFor(seed)];
  program(new EvalAsm(expected, [0, 0, 0], lanes));
  run(program, got, [0, 0, 0]);
  expect(contents(got), `seed ${seed}`).toBe(contents(expected));
}

/** `count` values of each type that all live through a loop and a branch, then leave by the roots' places. */
function pressure(count: number): Program {
  return (asm) => {
    const slots = TYPES.map((type) =>
      Array.from({ length: count }, (_, i) =>
        asm.op('add', [asm.load(type as MemType, asm.params[2], 0), asm.const(type, i + 1)]),
      ),
    );
    asm.loop(asm.const('i32', 0), asm.const('i32', 3), 1, (i) => {
      for (const registers of slots)
        for (let r = 0; r < count; r++) {
          const [x, y, into] = [registers[r], registers[(r * 7 + 3) % count], registers[(r * 5 + 1) % count]];
          if (x.type === 'f32' || x.type === 'f64' || x.type === 'vf32') asm.fma(into, x, asm.const(x.type, 0.5));
          asm.op(r % 3 === 0 ? 'sub' : r % 3 === 1 ? 'min' : 'max', [x, y], into);
          if (r % 4 === 0) asm.select(asm.op('lt', [x, y]), y, into, into);
        }
      asm.if(asm.op('eq', [i, asm.const('i32', 1)]), () => {
        for (const registers of slots) asm.move(registers[0], registers[count - 1]);
      });
    });
    slots.forEach((registers, t) => {
      const sum = asm.reg(registers[0].type);
      asm.move(sum, registers[0]);
      for (const register of registers.slice(1)) asm.op('max', [sum, register], sum);
      for (let root = 0; root < ROOTS; root++) {
        const value = root === 0 ? sum : registers[root];
        asm.store(value.type as MemType, asm.params[2], OUT + SLOT_BYTES * (t * ROOTS + root), value);
      }
    });
  };
}

describe.each(RUNNERS)('$name', (runner) => {
  test.skipIf(runner.absent !== undefined)('700 random programs', () => {
    for (let seed = 1; seed <= 700; seed++) agree(runner, randomProgram(seed), seed);
  });

  test.skipIf(runner.absent !== undefined).each([5, 14, 15, 16, 17, 40])('%i live values of each type', (count) => {
    for (let seed = 1; seed <= 10; seed++) agree(runner, pressure(count), seed);
  });
});
