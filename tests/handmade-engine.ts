/**
 * A small engine written by hand, for tests of devices that run programs: integer kernels whose right answer is known exactly, in
 * a chain where each step needs what other threads wrote in the step before.
 *
 *     x -> mix -> scale -> mix -> scale -> ... -> total -> spread -> y        (all i32[n], total one element)
 */
import type { BufferRef, Engine, Step, Tactic } from '../src/engine/engine.ts';
import type { Kernel } from '../src/loop/ir.ts';
import type { Asm, Reg } from '../src/targets/cpu/asm.ts';

const kernel = (name: string, buffers: readonly string[]): Kernel => ({
  name,
  form: { kind: 'map' },
  buffers: buffers.map((b, i) => ({
    name: b,
    dtype: 'i32',
    elements: 1,
    role: i === buffers.length - 1 ? 'out' : 'in',
  })),
  axes: [],
  body: [],
});

/** `trap` faults in the tile that is its parameter n. */
export const KERNELS: readonly Kernel[] = [
  kernel('mix', ['x', 'y']),
  kernel('scale', ['x', 'w', 'y']),
  kernel('total', ['x', 'y']),
  kernel('spread', ['x', 't', 'y']),
  kernel('trap', ['x', 'y']),
];
const [MIX, SCALE, TOTAL, SPREAD, TRAP] = KERNELS.keys();

const element = (asm: Asm, base: Reg, i: Reg): Reg => asm.load('i32', asm.address(base, i, 4), 0);

/** Code of the kernels; n, the elements of a whole array, is the tactic's parameter. */
export function emitHandmade(asm: Asm, { name }: Kernel, { params }: Tactic): void {
  const [begin, end, x, second, third] = asm.params;
  const n = asm.const('i32', params.n);
  const each = (out: Reg, f: (i: Reg) => Reg): void =>
    asm.loop(begin, end, 1, (i) => asm.store('i32', asm.address(out, i, 4), 0, f(i)));
  switch (name) {
    case 'mix': {
      // y[i] = 3·x[i] - x[i+1] + x[i-1], the ends joined
      const neighbour = (i: Reg, by: number): Reg =>
        asm.op('rem', [asm.op('add', [i, asm.const('i32', by + params.n)]), n]);
      each(second, (i) => {
        const thrice = asm.op('mul', [element(asm, x, i), asm.const('i32', 3)]);
        const less = asm.op('sub', [thrice, element(asm, x, neighbour(i, 1))]);
        return asm.op('add', [less, element(asm, x, neighbour(i, -1))]);
      });
      return;
    }
    case 'scale':
      each(third, (i) => asm.op('mul', [element(asm, x, i), element(asm, second, i)]));
      return;
    case 'total': {
      const sum = asm.reg('i32');
      asm.move(sum, asm.const('i32', 0));
      asm.loop(asm.const('i32', 0), n, 1, (i) => asm.op('add', [sum, element(asm, x, i)], sum));
      asm.store('i32', second, 0, sum);
      return;
    }
    case 'spread':
      each(third, (i) => asm.op('xor', [element(asm, x, i), asm.load('i32', second, 0)]));
      return;
    case 'trap':
      asm.loop(begin, end, 1, (i) => {
        const far = asm.select(asm.op('eq', [i, n]), asm.const('i32', -64), x);
        asm.store('i32', asm.convert('ptr', far), 0, i);
      });
      return;
    default:
      throw new Error(`no handmade kernel ${name}`);
  }
}

/** What the chain computes, in place of the network's definition. */
export function expectHandmade(x: Int32Array, weights: Int32Array, rounds: number): Int32Array {
  const n = x.length;
  let value = x;
  for (let r = 0; r < rounds; r++) {
    const mixed = value.map((v, i) => (Math.imul(v, 3) - value[(i + 1) % n] + value[(i + n - 1) % n]) | 0);
    value = mixed.map((v, i) => Math.imul(v, weights[i]));
  }
  const total = value.reduce((sum, v) => (sum + v) | 0, 0);
  return value.map((v) => v ^ total);
}

export interface HandmadeOptions {
  /** Elements of an array, a tile each. */
  readonly n: number;
  readonly rounds: number;
  readonly maxThreads?: number;
  /** Adds a step that traps in this tile. */
  readonly trapAt?: number;
}

export interface Handmade {
  readonly engine: Omit<Engine, 'code'>;
  readonly weights: Int32Array;
}

export function handmadeEngine({ n, rounds, maxThreads = 1024, trapAt }: HandmadeOptions): Handmade {
  const bytes = 4 * n;
  const stride = Math.ceil(bytes / 64) * 64;
  const ref = (slot: number, size = bytes): BufferRef => ({ space: 'arena', byteOffset: slot * stride, bytes: size });
  const weight: BufferRef = { space: 'weights', byteOffset: 0, bytes };
  const [X, P, Q, T, Y] = [0, 1, 2, 3, 4];
  const step = (
    index: number,
    buffers: readonly BufferRef[],
    options: Partial<Step> & { limit?: number } = {},
  ): Step => ({
    kernel: index,
    tactic: { template: 'generated', params: { n: options.limit ?? n }, predictedNs: 0 },
    buffers,
    values: buffers.map((_, i) => `v${i}`),
    loc: [],
    tiles: n,
    maxThreads: Math.min(n, maxThreads),
    barrier: true,
    flops: n,
    bytesMoved: 2 * bytes,
    ...options,
  });
  const steps: Step[] = [];
  let from = X;
  for (let r = 0; r < rounds; r++) {
    steps.push(step(MIX, [ref(from), ref(P)], { barrier: r > 0 }));
    steps.push(step(SCALE, [ref(P), weight, ref(Q + (r % 2) * 3)]));
    from = Q + (r % 2) * 3;
  }
  steps.push(step(TOTAL, [ref(from), ref(T, 4)], { tiles: 1, maxThreads: 1 }));
  steps.push(step(SPREAD, [ref(from), ref(T, 4), ref(Y)]));
  if (trapAt !== undefined) steps.splice(1, 0, step(TRAP, [ref(X), ref(P)], { limit: trapAt }));
  const weights = Int32Array.from({ length: n }, (_, i) => 2 * i + 1);
  const engine: Omit<Engine, 'code'> = {
    name: 'handmade',
    target: 'wasm',
    builtBy: 'test',
    machine: [],
    precision: 'fp32',
    inputs: [{ name: 'x', dtype: 'i32', shape: [n], buffer: ref(X) }],
    outputs: [{ name: 'y', dtype: 'i32', shape: [n], buffer: ref(Y) }],
    kernels: KERNELS,
    steps,
    weights: [{ name: 'w', dtype: 'i32', shape: [n], byteOffset: 0, bytes }],
    weightBytes: new Uint8Array(weights.buffer),
    arenaBytes: 6 * stride,
  };
  return { engine, weights };
}
