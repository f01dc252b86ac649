/** The arguments of launches as numbers, for runners that lay a program's memory out by themselves. */
import type { BufferRef } from '../../src/engine/engine.ts';
import type { CudaArg } from '../../src/targets/cuda/program.ts';

export interface Places {
  buffer(ref: BufferRef): number;
  readonly scratch: number;
}

export const argumentIn =
  (places: Places) =>
  (arg: CudaArg): number => {
    switch (arg.kind) {
      case 'buffer':
        return places.buffer(arg.ref);
      case 'scratch':
        return places.scratch + arg.byteOffset;
      case 'u32':
        return arg.value;
      default:
        return arg satisfies never;
    }
  };
