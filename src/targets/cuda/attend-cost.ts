/**
 * What an attend on tensor cores costs: rounds of blocks, each as long as its turns over the keys and what begins and ends it.
 */
import type { Kernel } from '../../loop/ir.ts';
import { type AttendShape, type AttendTile, layoutOf } from './attend-plan.ts';

const MULTIPROCESSORS = 132;

export function predictAttendNs(_kernel: Kernel, shape: AttendShape, tile: AttendTile): number {
  const { turns } = layoutOf(shape, tile);
  const blocks = shape.heads * Math.ceil(shape.queries / (16 * tile.wm)) * tile.split;
  return 1e9 + Math.ceil(blocks / MULTIPROCESSORS) * turns * tile.keys;
}
