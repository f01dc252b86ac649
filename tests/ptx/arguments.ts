/** The arguments of launches as numbers, for runners that lay a program's memory out by themselves. */
import type { BufferRef } from '../../src/engine/engine.ts';
import { writeRecords } from '../../src/targets/cuda/persistent.ts';
import type { CudaArg } from '../../src/targets/cuda/program.ts';

export interface Places {
  buffer(ref: BufferRef): number;
  readonly scratch: number;
  readonly state: number;
  /** Puts bytes that kernels read where they reach them. */
  table(bytes: Uint8Array): number;
}

export function argumentIn(places: Places): (arg: CudaArg) => number {
  const valueIn = (arg: CudaArg): number => {
    switch (arg.kind) {
      case 'buffer':
        return places.buffer(arg.ref);
      case 'scratch':
        return places.scratch + arg.byteOffset;
      case 'state':
        return places.state + arg.byteOffset;
      case 'records':
        return places.table(writeRecords(arg.table, valueIn));
      case 'u32':
        return arg.value;
      default:
        return arg satisfies never;
    }
  };
  return valueIn;
}
