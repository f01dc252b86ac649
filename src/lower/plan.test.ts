import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DTYPES } from '../core/dtype.ts';
import { BUFFER_ALIGNMENT } from '../engine/engine.ts';
import type { Kernel } from '../loop/ir.ts';
import { parseKernel } from '../loop/parse.ts';
import type { LoweredGraph } from './lower.ts';
import { planMemory } from './plan.ts';
import type { Block, Storage } from './storage.ts';

const KERNEL: Kernel = { name: 'k', form: { kind: 'map' }, buffers: [], axes: [], body: [] };
const storage = (block: Block): Storage => ({ block, offset: 0, shape: [block.elements], strides: [1] });

/** A chain of steps in which step i touches the blocks listed; block 0 is the input, the last one the output. */
function chain(
  sizes: readonly number[],
  touches: readonly (readonly number[])[],
): { graph: LoweredGraph; blocks: Block[] } {
  const blocks = sizes.map((elements, id): Block => ({ id, name: `b${id}`, dtype: 'f32', elements, space: 'arena' }));
  const steps = touches.map((ids) => ({
    kernel: KERNEL,
    operands: ids.map((id) => ({ value: `b${id}`, storage: storage(blocks[id]), role: 'in' as const })),
    facts: { constant: new Set<string>() },
    loc: [],
  }));
  const bind = (block: Block) => ({ name: block.name, storage: storage(block) });
  const graph = {
    name: 'g',
    steps,
    inputs: [bind(blocks[0])],
    outputs: [bind(blocks.at(-1) as Block)],
    constants: new Map(),
  };
  return { graph, blocks };
}

describe('the memory plan', () => {
  it('never lets two blocks that are alive at one step overlap, and keeps inputs all along and outputs to the end', () => {
    const cases = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 2, maxLength: 9 }).chain((sizes) =>
      fc.tuple(
        fc.constant(sizes),
        fc.array(fc.array(fc.integer({ min: 0, max: sizes.length - 1 }), { minLength: 1, maxLength: 3 }), {
          maxLength: 9,
        }),
      ),
    );
    fc.assert(
      fc.property(cases, ([sizes, touches]) => {
        const { graph, blocks } = chain(sizes, touches);
        const plan = planMemory(graph);
        const used = touches.map((ids) => new Set(ids));
        const lifeOf = (id: number): [number, number] => {
          if (id === 0) return [-1, touches.length];
          const at = used.flatMap((ids, i) => (ids.has(id) ? [i] : []));
          if (id === blocks.length - 1) at.push(touches.length);
          return [Math.min(...at), Math.max(...at)];
        };
        for (const a of plan.byteOffset.keys()) {
          const from = plan.byteOffset.get(a) as number;
          const to = from + a.elements * DTYPES[a.dtype].bytes;
          expect(from % BUFFER_ALIGNMENT).toBe(0);
          expect(to).toBeLessThanOrEqual(plan.arenaBytes);
          for (const b of plan.byteOffset.keys()) {
            const [a0, a1] = lifeOf(a.id);
            const [b0, b1] = lifeOf(b.id);
            if (a.id >= b.id || a1 < b0 || b1 < a0) continue;
            const other = plan.byteOffset.get(b) as number;
            expect(to <= other || other + b.elements * DTYPES[b.dtype].bytes <= from).toBe(true);
          }
        }
      }),
    );
  });

  it('reuses the bytes of a value that nobody reads any more', () => {
    const { graph } = chain(
      [16, 1000, 1000, 1000, 16],
      [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
      ],
    );
    expect(planMemory(graph).arenaBytes).toBe(64 + 2 * 4032);
  });

  it('keeps what a step reads last until those are done that may run beside it', () => {
    const touches = [
      [0, 1],
      [1, 2],
      [0, 3],
      [2, 3, 4],
    ];
    const { graph, blocks } = chain([1000, 1000, 1000, 1000, 16], touches);
    const steps = graph.steps.map((step) => ({
      ...step,
      operands: step.operands.map((o, i, all) => ({ ...o, role: i === all.length - 1 ? ('out' as const) : o.role })),
    }));
    const placesOf = (sideBySide: boolean) => {
      const { byteOffset } = planMemory({ ...graph, steps }, { sideBySide });
      return blocks.map((block) => byteOffset.get(block));
    };
    // The third step reads nothing of the second's; the operand of the second is free only behind both.
    const [inTurn, together] = [placesOf(false), placesOf(true)];
    expect(inTurn[3]).toBe(inTurn[1]);
    expect(together[3]).not.toBe(together[1]);
  });

  describe('in place', () => {
    const add = parseKernel(
      'kernel add = map (in a: f32[100], in b: f32[100], out y: f32[100]) for i < 100 { y[i] = a[i] + b[i] }',
    );
    const shift = parseKernel('kernel shift = map (in a: f32[101], out y: f32[100]) for i < 100 { y[i] = a[i + 1] }');
    /** Each step: its kernel, then the blocks that it reads, then the one it writes. */
    const plan = (steps: readonly (readonly [Kernel, ...number[]])[], count: number) => {
      const { graph, blocks } = chain(
        new Array(count).fill(101),
        steps.map(([, ...ids]) => ids),
      );
      const withKernels = graph.steps.map((step, i) => ({ ...step, kernel: steps[i][0] }));
      const { byteOffset, arenaBytes } = planMemory({ ...graph, steps: withKernels }, { inPlace: true });
      return { at: blocks.map((block) => byteOffset.get(block)), arenaBytes };
    };

    it('a chain of results takes the place of the operand that dies', () => {
      const { at, arenaBytes } = plan(
        [
          [shift, 0, 1],
          [add, 1, 0, 2],
          [add, 0, 2, 3],
          [shift, 3, 4],
        ],
        5,
      );
      expect([at[2], at[3]]).toEqual([at[1], at[1]]);
      expect(arenaBytes).toBe(3 * 448);
    });

    it('no result takes the place of what is read later, of an input, or of what is read elsewhere too', () => {
      expect(
        new Set(
          plan(
            [
              [shift, 0, 1],
              [add, 1, 0, 2],
              [add, 1, 2, 3],
              [shift, 3, 4],
            ],
            5,
          ).at.slice(1, 3),
        ).size,
      ).toBe(2);
      const { at } = plan(
        [
          [add, 0, 0, 1],
          [add, 1, 1, 2],
          [shift, 2, 3],
          [shift, 3, 4],
        ],
        5,
      );
      expect(at[1]).not.toBe(at[0]);
      expect(at[2]).not.toBe(at[1]);
      expect(at[3]).not.toBe(at[2]);
    });
  });
});
