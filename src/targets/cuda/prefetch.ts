/**
 * Weights of the next step on their way into the second-level cache while this step runs: a kernel's first thread of each block asks for a
 * slice of them (cp.async.bulk.prefetch.L2, sm_90 and newer) before it waits for the kernel before.
 *
 * Steps of small batches read most bytes once an inference, from memory, whose latency their pipelines cannot hide. In comes an entry as
 * any template wrote it, out the same entry with three parameters more: address, bytes a block, bytes in all.
 */
import type { BufferRef, Step } from '../../engine/engine.ts';
import type { CudaArg } from './program.ts';
import type { PtxEntry } from './ptx.ts';

/** The first chip with the instruction. */
export const PREFETCH_CAPABILITY = 90;
/** Below, asking costs more than it saves. */
const LEAST_BYTES = 64 * 1024;
/** Above, it would drive out of the cache what is still needed there. */
const MOST_BYTES = 16 * 2 ** 20;
/** Addresses and sizes are multiples of it. */
const GRAIN = 16;

/** What is worth asking for before steps run: their largest constant, if that is large. */
export function prefetchedWeights(steps: readonly Step[]): BufferRef | undefined {
  const weights = steps
    .flatMap(({ buffers }) => buffers)
    .filter(({ space, bytes }) => space === 'weights' && bytes >= LEAST_BYTES && bytes <= MOST_BYTES);
  const [first, ...others] = weights.filter(({ byteOffset }) => byteOffset % GRAIN === 0);
  return others.reduce((most, ref) => (ref.bytes > most.bytes ? ref : most), first);
}

/** The arguments behind those of the entry itself. */
export function prefetchArgs(weights: BufferRef, blocks: number): readonly CudaArg[] {
  const bytes = weights.bytes - (weights.bytes % GRAIN);
  return [
    { kind: 'buffer', ref: weights },
    { kind: 'u32', value: Math.ceil(bytes / blocks / GRAIN) * GRAIN },
    { kind: 'u32', value: bytes },
  ];
}

export const prefetchingName = (name: string): string => `${name}_p`;

/** `entry` must be one entry with a parameter or more. */
export function withPrefetch(entry: PtxEntry): PtxEntry {
  const name = prefetchingName(entry.name);
  const text = entry.text().replaceAll(entry.name, name);
  const parameters = text.indexOf(')', text.indexOf(`.entry ${name}(`));
  const body = text.indexOf('\n{\n', parameters) + '\n{\n'.length;
  const [address, chunk, total] = ['address', 'chunk', 'total'].map((p) => `${name}_next_${p}`);
  const more = `, .param .u64 ${address}, .param .u32 ${chunk}, .param .u32 ${total}`;
  const prologue = `  .reg .pred %next_p;
  .reg .b32 %next_r<8>;
  .reg .b64 %next_d<3>;
  mov.u32 %next_r0, %tid.x;
  setp.ne.u32 %next_p, %next_r0, 0;
  @%next_p bra $${name}_next;
  mov.u32 %next_r1, %ctaid.x;
  mov.u32 %next_r2, %ctaid.y;
  mov.u32 %next_r3, %nctaid.x;
  mad.lo.u32 %next_r1, %next_r2, %next_r3, %next_r1;
  ld.param.u32 %next_r4, [${chunk}];
  ld.param.u32 %next_r5, [${total}];
  mul.lo.u32 %next_r6, %next_r1, %next_r4;
  setp.ge.u32 %next_p, %next_r6, %next_r5;
  @%next_p bra $${name}_next;
  ld.param.u64 %next_d0, [${address}];
  sub.u32 %next_r7, %next_r5, %next_r6;
  min.u32 %next_r7, %next_r7, %next_r4;
  cvt.u64.u32 %next_d1, %next_r6;
  add.u64 %next_d2, %next_d0, %next_d1;
  cp.async.bulk.prefetch.L2.global [%next_d2], %next_r7;
$${name}_next:
`;
  const whole = text.slice(0, parameters).trimEnd() + more + text.slice(parameters, body) + prologue + text.slice(body);
  return { name, exact: entry.exact, dynamicShared: entry.dynamicShared, text: () => whole };
}
