/** Which inputs and outputs of an engine need no copy, and that an engine runs right without. */
import { describe, expect, test } from 'vitest';
import { FakeDriver, type FakeLaunch } from '../../../tests/cuda/fake-driver.ts';
import { Driver } from '../../cuda/driver.ts';
import type { Binding, BufferRef, Engine, Step } from '../../engine/engine.ts';
import * as e from '../../loop/expr.ts';
import type { Kernel } from '../../loop/ir.ts';
import { openProgram } from './device.ts';
import { directIo } from './direct-io.ts';
import { type CudaMachine, machineOf } from './machine.ts';
import type { CudaProgram } from './program.ts';

const N = 64;
const ref = (slot: number, bytes = 4 * N): BufferRef => ({ space: 'arena', byteOffset: slot * 4 * N, bytes });

/** y[i] = x[i] + … over `reads` loads of each element, for the first `points` elements. */
const map = (reads: number, points = N): Kernel => {
  const load = e.load('x', 'f32', e.axis('i'));
  // Distinct loads: a shared one counts once.
  const loads = Array.from({ length: reads }, (_, k) => e.load('x', 'f32', e.add(e.axis('i'), e.index(k))));
  return {
    name: `map${reads}`,
    form: { kind: 'map' },
    buffers: [
      { name: 'x', dtype: 'f32', elements: N, role: 'in' },
      { name: 'y', dtype: 'f32', elements: N, role: 'out' },
    ],
    axes: [{ name: 'i', extent: points }],
    body: [{ kind: 'store', buffer: 'y', index: e.axis('i'), value: loads.slice(1).reduce(e.add, load) }],
  };
};

interface Plan {
  readonly kernels?: readonly Kernel[];
  /** Kernel, from, to. */
  readonly steps: readonly (readonly [number, BufferRef, BufferRef])[];
  readonly inputs: readonly BufferRef[];
  readonly outputs: readonly BufferRef[];
}

function engineOf({ kernels = [map(1), map(3), map(1, N / 2)], steps, inputs, outputs }: Plan): Engine {
  const binding =
    (role: string) =>
    (buffer: BufferRef, i: number): Binding => ({
      name: `${role}${i}`,
      dtype: 'f32',
      shape: [buffer.bytes / 4],
      buffer,
    });
  return {
    name: 'small',
    target: 'cuda',
    builtBy: 'test',
    machine: [],
    precision: 'fp32',
    inputs: inputs.map(binding('x')),
    outputs: outputs.map(binding('y')),
    kernels,
    steps: steps.map(
      ([kernel, from, to]): Step => ({
        kernel,
        tactic: { template: 'generated', params: {}, predictedNs: 0 },
        buffers: [from, to],
        values: ['x', 'y'],
        loc: [],
        tiles: 1,
        maxThreads: 1,
        barrier: false,
        flops: 0,
        bytesMoved: 0,
      }),
    ),
    weights: [],
    weightBytes: new Uint8Array(0),
    arenaBytes: 4 * 4 * N,
    code: [],
  };
}

/** Steps of the direct uses. */
const stepsOf = (plan: Plan): unknown => {
  const { inputs, outputs } = directIo(engineOf(plan));
  return [inputs.map((use) => use?.step), outputs.map((use) => use?.step)];
};

describe('no copy is needed', () => {
  test('where the first step reads the input and the last writes the output', () => {
    expect(
      stepsOf({
        steps: [
          [0, ref(0), ref(1)],
          [0, ref(1), ref(2)],
        ],
        inputs: [ref(0)],
        outputs: [ref(2)],
      }),
    ).toEqual([[0], [1]]);
  });

  test('where the place is used for other values before or after', () => {
    const plan: Plan = {
      steps: [
        [0, ref(0), ref(1)],
        [1, ref(1), ref(2)],
        [0, ref(2), ref(0)],
        [0, ref(0), ref(2)],
      ],
      inputs: [ref(0)],
      outputs: [ref(2)],
    };
    expect(stepsOf(plan)).toEqual([[0], [3]]);
  });
});

describe('a copy is needed', () => {
  test.each<[string, Plan, unknown]>([
    [
      'two steps read the input',
      {
        steps: [
          [0, ref(0), ref(1)],
          [0, ref(0), ref(2)],
        ],
        inputs: [ref(0)],
        outputs: [ref(2)],
      },
      [[undefined], [1]],
    ],
    [
      'elements are read again and again',
      { steps: [[1, ref(0), ref(1)]], inputs: [ref(0)], outputs: [ref(1)] },
      [[undefined], [0]],
    ],
    [
      'a part of the input is read',
      { steps: [[0, ref(0, 2 * N), ref(1)]], inputs: [ref(0)], outputs: [ref(1)] },
      [[undefined], [0]],
    ],
    [
      'no step reads the input',
      { steps: [[0, ref(1), ref(2)]], inputs: [ref(0)], outputs: [ref(2)] },
      [[undefined], [0]],
    ],
    [
      'the input is an output',
      { steps: [[0, ref(0), ref(1)]], inputs: [ref(0)], outputs: [ref(0), ref(1)] },
      [[undefined], [undefined, 0]],
    ],
    [
      'a later step reads the output',
      {
        steps: [
          [0, ref(0), ref(1)],
          [0, ref(1), ref(2)],
        ],
        inputs: [ref(0)],
        outputs: [ref(1), ref(2)],
      },
      [[0], [undefined, 1]],
    ],
    [
      'the step reads what it writes',
      { steps: [[0, ref(0), ref(0)]], inputs: [ref(0)], outputs: [ref(0)] },
      [[undefined], [undefined]],
    ],
    [
      'the output is put together from parts',
      {
        steps: [
          [0, ref(0), ref(1)],
          [2, ref(2), ref(1)],
        ],
        inputs: [ref(0)],
        outputs: [ref(1)],
      },
      [[0], [undefined]],
    ],
    [
      'two outputs are one',
      { steps: [[0, ref(0), ref(1)]], inputs: [ref(0)], outputs: [ref(1), ref(1)] },
      [[0], [undefined, undefined]],
    ],
  ])('where %s', (_, plan, expected) => {
    expect(stepsOf(plan)).toEqual(expected);
  });
});

const floats = (launch: FakeLaunch, i: number): Float32Array => {
  const bytes = launch.pointer(i);
  return new Float32Array(bytes.buffer, bytes.byteOffset, N);
};

test.each([true, false])('an engine runs right, with host addresses: %s', async (hostAddresses) => {
  const kernels = { twice: (l: FakeLaunch) => void floats(l, 1).set(floats(l, 0).map((x) => 2 * x)) };
  const fake = new FakeDriver({ kernels, hostAddresses });
  const here = machineOf(new Driver(fake.library)) as CudaMachine;
  const engine = engineOf({
    steps: [
      [0, ref(0), ref(1)],
      [0, ref(1), ref(2)],
    ],
    inputs: [ref(0)],
    outputs: [ref(2)],
  });
  const program: CudaProgram = {
    modules: ['.entry twice ()'],
    launches: engine.steps.map(({ buffers }, step) => ({
      step,
      module: 0,
      entry: 'twice',
      grid: [1, 1, 1],
      block: [N, 1, 1],
      sharedBytes: 0,
      args: buffers.map((buffer) => ({ kind: 'buffer', ref: buffer })),
    })),
    scratchBytes: 0,
    programmatic: false,
  };
  const open = await openProgram(engine, program, { threads: 1, onWarning: () => {} }, here, undefined);
  const context = open.createContext();
  const copies = fake.calls.filter((name) => /Memcpy.*Async/.test(name)).length;
  expect(copies).toBe(hostAddresses ? 0 : 2);
  for (const seed of [1, 2]) {
    context.inputs[0].set(Float32Array.from({ length: N }, (_, i) => i * seed) as never);
    context.execute();
    expect([...(context.outputs[0] as Float32Array)]).toEqual(Array.from({ length: N }, (_, i) => 4 * i * seed));
  }
  expect(context.phases?.(2).gpuNs.length).toBe(2);
  open.dispose();
  expect(fake.live()).toEqual({});
});
