/**
 * What templates of tensor cores ask of a chip, by the features that machine.ts names.
 */

/** cp.async, mma.sync of 16 rows and bf16 came with sm_80, clusters with sm_90. */
export const LEAST_TENSOR_CORES = 'sm_80';
export const CLUSTERS = 'sm_90';
/** wgmma exists on this very architecture only. */
export const WARPGROUPS = 'sm_90a';
/** Shared memory of a block by architecture, the newest that the chip has. */
const SHARED_BYTES: readonly (readonly [feature: string, bytes: number])[] = [
  ['sm_120', 101_376],
  ['sm_90', 232_448],
  ['sm_89', 101_376],
  ['sm_87', 166_912],
  ['sm_86', 101_376],
  ['sm_80', 166_912],
];

/** Undefined for chips older than all of these. */
export const sharedBytesOf = (features: readonly string[]): number | undefined =>
  SHARED_BYTES.find(([feature]) => features.includes(feature))?.[1];
