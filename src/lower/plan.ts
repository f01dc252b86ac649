/**
 * The memory plan: where each block lies in the arena, such that blocks alive at the same step never overlap.
 *
 * Blocks are placed largest first at the lowest offset that is free over their whole life (greedy by size, as in "Efficient Memory
 * Management for Deep Neural Net Inference", Pisarchyk and Lee, 2020). Network inputs and outputs live all the time, so that an
 * engine can be run again on the same inputs. Offsets are multiples of 64 bytes.
 */
import { alignUp } from '../core/bytes.ts';
import { DTYPES } from '../core/dtype.ts';
import { BUFFER_ALIGNMENT } from '../engine/engine.ts';
import type { LoweredGraph } from './lower.ts';
import type { Block } from './storage.ts';

export interface MemoryPlan {
  readonly byteOffset: ReadonlyMap<Block, number>;
  readonly arenaBytes: number;
}

interface Life {
  readonly block: Block;
  readonly bytes: number;
  first: number;
  last: number;
}

export function planMemory(graph: LoweredGraph): MemoryPlan {
  const placed: (Life & { offset: number })[] = [];
  const lives = livesOf(graph).sort((a, b) => b.bytes - a.bytes || a.first - b.first || a.block.id - b.block.id);
  for (const life of lives) {
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
    byteOffset: new Map(placed.map((p) => [p.block, p.offset])),
    arenaBytes: placed.reduce((most, p) => Math.max(most, p.offset + p.bytes), 0),
  };
}

function livesOf(graph: LoweredGraph): Life[] {
  const lives = new Map<Block, Life>();
  const touch = (block: Block, step: number): void => {
    if (block.space !== 'arena') return;
    const life = lives.get(block);
    if (life) {
      life.first = Math.min(life.first, step);
      life.last = Math.max(life.last, step);
    } else
      lives.set(block, {
        block,
        bytes: alignUp(block.elements * DTYPES[block.dtype].bytes, BUFFER_ALIGNMENT),
        first: step,
        last: step,
      });
  };
  graph.steps.forEach((step, i) => {
    for (const { storage } of step.operands) touch(storage.block, i);
  });
  const kept = [...graph.inputs, ...graph.outputs].map(({ storage }) => storage.block);
  for (const block of graph.sizes ? [...kept, graph.sizes.block] : kept) {
    touch(block, -1);
    touch(block, graph.steps.length);
  }
  return [...lives.values()];
}
