/**
 * The memory plan: where each block lies in the arena, such that blocks alive at the same step never overlap, except where a step
 * computes in place: the block of its result takes the place of a block that dies there (`loop/in-place.ts` says which may).
 *
 * Blocks are placed largest first at the lowest offset that is free over their whole life (greedy by size, as in "Efficient Memory
 * Management for Deep Neural Net Inference", Pisarchyk and Lee, 2020); blocks that share a place are placed as one. Network inputs live
 * all the time, so that an engine can be run again on the same inputs, outputs from where they are made. Offsets are multiples of 64 bytes.
 */
import { alignUp } from '../core/bytes.ts';
import { DTYPES } from '../core/dtype.ts';
import { BUFFER_ALIGNMENT } from '../engine/engine.ts';
import { sharedPlaces } from '../loop/in-place.ts';
import type { LoweredGraph, LoweredStep } from './lower.ts';
import type { Block } from './storage.ts';

export interface MemoryPlan {
  readonly byteOffset: ReadonlyMap<Block, number>;
  readonly arenaBytes: number;
}

/** Blocks of one place: one, or a chain of which each takes the place of the one before. */
interface Life {
  readonly blocks: readonly Block[];
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

/**
 * `inPlace`: whether the target's kernels may run on buffers that share. Where that would not make the arena smaller but larger, none do.
 * `sideBySide`: steps that do not depend on each other may run at the same time, so what one of them reads last stays until all are done.
 */
export function planMemory(graph: LoweredGraph, { inPlace = false, sideBySide = false } = {}): MemoryPlan {
  const lives = livesOf(graph, sideBySide ? lastsTogether(graph.steps) : graph.steps.map((_, i) => i));
  const apart = place(lives);
  if (!inPlace) return apart;
  const shared = place(shareInPlace(graph, lives));
  return shared.arenaBytes <= apart.arenaBytes ? shared : apart;
}

function place(lives: readonly Life[]): MemoryPlan {
  const placed: (Life & { offset: number })[] = [];
  const bySize = lives.toSorted((a, b) => b.bytes - a.bytes || a.first - b.first || a.blocks[0].id - b.blocks[0].id);
  for (const life of bySize) {
    const clashes = placed
      .filter((p) => p.first <= life.last && life.first <= p.last)
      .sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const clash of clashes) {
      if (offset + life.bytes <= clash.offset) break;
      offset = Math.max(offset, clash.offset + clash.bytes);
    }
    placed.push({ ...life, offset });
  }
  return {
    byteOffset: new Map(placed.flatMap(({ blocks, offset }) => blocks.map((block) => [block, offset] as const))),
    arenaBytes: placed.reduce((most, p) => Math.max(most, p.offset + p.bytes), 0),
  };
}

/** For each step the last one of the run of neighbours around it in which none reads what another writes. */
function lastsTogether(steps: readonly LoweredStep[]): number[] {
  const lasts: number[] = [];
  let first = 0;
  let written = new Set<Block>();
  for (const [i, { operands }] of steps.entries()) {
    if (operands.some(({ role, storage }) => role !== 'out' && written.has(storage.block))) {
      first = i;
      written = new Set();
    }
    for (const { role, storage } of operands) if (role === 'out') written.add(storage.block);
    for (let j = first; j <= i; j++) lasts[j] = i;
  }
  return lasts;
}

/** `lastOf`: the step at whose end a step's operands are done with. */
function livesOf(graph: LoweredGraph, lastOf: readonly number[]): Life[] {
  const lives = new Map<Block, { first: number; last: number }>();
  const touch = (block: Block, step: number): void => {
    if (block.space !== 'arena') return;
    const { first, last } = lives.get(block) ?? { first: step, last: step };
    lives.set(block, { first: Math.min(first, step), last: Math.max(last, step) });
  };
  graph.steps.forEach((step, i) => {
    for (const { storage } of step.operands) {
      touch(storage.block, i);
      touch(storage.block, lastOf[i]);
    }
  });
  const kept = graph.inputs.map(({ storage }) => storage.block);
  for (const block of graph.sizes ? [...kept, graph.sizes.block] : kept) {
    touch(block, -1);
    touch(block, graph.steps.length);
  }
  for (const { storage } of graph.outputs) touch(storage.block, graph.steps.length);
  return [...lives].map(([block, life]) => ({ blocks: [block], bytes: bytesOf(block), ...life }));
}

const bytesOf = (block: Block): number => alignUp(block.elements * DTYPES[block.dtype].bytes, BUFFER_ALIGNMENT);

/** The lives, with those joined of which one begins where another one ends, in a step that may compute in place. */
function shareInPlace(graph: LoweredGraph, lives: readonly Life[]): Life[] {
  const lifeOf = new Map(lives.map((life) => [life.blocks[0], life]));
  for (const [i, step] of graph.steps.entries()) {
    for (const [from, to] of sharedBlocks(step)) {
      const [dying, born] = [lifeOf.get(from), lifeOf.get(to)];
      if (!dying || !born || dying.last !== i || born.first !== i) continue;
      const joined = {
        blocks: [...dying.blocks, ...born.blocks],
        bytes: Math.max(dying.bytes, born.bytes),
        first: dying.first,
        last: born.last,
      };
      for (const block of joined.blocks) lifeOf.set(block, joined);
    }
  }
  return [...new Set(lifeOf.values())];
}

/** Pairs of blocks that the step touches through one operand each, from their beginning on, and may have in one place. */
function sharedBlocks({ kernel, operands }: LoweredStep): (readonly [Block, Block])[] {
  const at = (name: string) => operands[kernel.buffers.findIndex((b) => b.name === name)].storage;
  const isAlone = (block: Block): boolean => operands.filter(({ storage }) => storage.block === block).length === 1;
  return sharedPlaces(kernel)
    .map(({ from, to }) => [at(from), at(to)] as const)
    .filter((pair) => pair.every(({ block, offset, shift }) => offset === 0 && !shift && isAlone(block)))
    .map(([from, to]) => [from.block, to.block] as const);
}
