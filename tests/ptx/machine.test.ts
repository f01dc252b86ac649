/**
 * The interpreter of PTX against PTX written by hand: results where the ISA defines them, errors where a program is wrong. Every
 * program here passes ptxas where that is installed, so the interpreter is not tested on a language of its own.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { numberToF16 } from '../../src/core/float16.ts';
import { PtxProgram } from './machine.ts';
import { GlobalMemory } from './memory.ts';

const folder = mkdtempSync(join(tmpdir(), 'ptx-'));
afterAll(() => rmSync(folder, { recursive: true }));
const hasPtxas = (() => {
  try {
    execFileSync('ptxas', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
})();

function kernel(params: string, body: string, block = 128): string {
  const list = params
    .split(' ')
    .filter((p) => p)
    .map((p) => `.param .${p.split(':')[1]} ${p.split(':')[0]}`)
    .join(', ');
  const text = `.version 8.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 dyn[];\n.visible .entry k(${list})\n.maxntid ${block}, 1, 1\n{\n${body}\n}\n`;
  if (hasPtxas) {
    const file = join(folder, 'k.ptx');
    writeFileSync(file, text);
    execFileSync('ptxas', ['-arch=sm_80', '-o', join(folder, 'k.cubin'), file], { stdio: 'pipe' });
  }
  return text;
}

function run(
  text: string,
  memory: GlobalMemory,
  args: readonly (number | bigint)[],
  options: { grid?: number; block?: number; shared?: number } = {},
): void {
  const { grid = 1, block = 128, shared = 0 } = options;
  new PtxProgram(text).run(memory, { entry: 'k', grid: [grid, 1, 1], block: [block, 1, 1], sharedBytes: shared, args });
}
const floats = (memory: GlobalMemory, at: number, n: number): Float32Array => {
  const bytes = memory.bytesAt(at, n * 4);
  return new Float32Array(bytes.buffer, bytes.byteOffset, n);
};
const ints = (memory: GlobalMemory, at: number, n: number): Int32Array => {
  const bytes = memory.bytesAt(at, n * 4);
  return new Int32Array(bytes.buffer, bytes.byteOffset, n);
};

const INDEX = `
  .reg .b32 %r<40>; .reg .b64 %rd<20>; .reg .f32 %f<20>; .reg .pred %p<8>; .reg .b16 %h<8>;
  mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x;
  mad.lo.s32 %r3, %r0, %r1, %r2;`;

describe('memory', () => {
  const scale = kernel(
    'x:u64 y:u64 n:u32',
    `${INDEX}
  ld.param.u32 %r4, [n]; setp.ge.u32 %p1, %r3, %r4;
  @%p1 bra DONE;
  ld.param.u64 %rd1, [x]; cvta.to.global.u64 %rd1, %rd1;
  mad.wide.u32 %rd2, %r3, 4, %rd1;
  ld.global.nc.f32 %f1, [%rd2];
  ld.param.u64 %rd3, [y]; mad.wide.u32 %rd4, %r3, 4, %rd3;
  fma.rn.f32 %f2, %f1, 0f40000000, 0f3F800000;
  st.global.f32 [%rd4], %f2;
DONE:
  ret;`,
  );
  test('a guarded loop over elements, with a tail', () => {
    const memory = new GlobalMemory();
    const x = memory.alloc(
      'x',
      Float32Array.from({ length: 300 }, (_, i) => i),
    );
    const y = memory.alloc('y', 1200);
    run(scale, memory, [x, y, 300], { grid: 3 });
    expect([...floats(memory, y, 300)]).toEqual(Array.from({ length: 300 }, (_, i) => 2 * i + 1));
  });
  test('an access outside names the buffer, the line and the thread', () => {
    const memory = new GlobalMemory();
    const x = memory.alloc('x', new Float32Array(299));
    const y = memory.alloc('y', 1200);
    expect(() => run(scale, memory, [x, y, 300], { grid: 3 })).toThrow(
      /line \d+, block 2,0,0 thread 43: read of 4 bytes outside a buffer: x \(1196 bytes\)/,
    );
  });
  test('a write to constants, and a misaligned vector', () => {
    const memory = new GlobalMemory();
    const x = memory.alloc('x', new Float32Array(128));
    const y = memory.alloc('y', new Float32Array(128), true);
    expect(() => run(scale, memory, [x, y, 128])).toThrow(/read-only/);
    const text = kernel(
      'x:u64',
      `.reg .b64 %rd<2>; .reg .b32 %r<5>; ld.param.u64 %rd1, [x]; ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1+8]; ret;`,
    );
    expect(() => run(text, memory, [x])).toThrow(/16-byte access of x at byte 8 is misaligned/);
  });
});

describe('shared memory', () => {
  const reverse = (barrier: string): string =>
    kernel(
      'y:u64',
      `.shared .align 16 .b8 tile[512]; ${INDEX}
  shl.b32 %r4, %r2, 2; mov.u32 %r5, tile; add.s32 %r6, %r5, %r4;
  st.shared.u32 [%r6], %r2;
  ${barrier}
  sub.s32 %r7, 508, %r4; add.s32 %r8, %r5, %r7; ld.shared.u32 %r9, [%r8];
  ld.param.u64 %rd1, [y]; mad.wide.u32 %rd2, %r2, 4, %rd1; st.global.u32 [%rd2], %r9; ret;`,
    );
  test('a barrier hands values from thread to thread', () => {
    const memory = new GlobalMemory();
    const y = memory.alloc('y', 512);
    run(reverse('bar.sync 0;'), memory, [y]);
    expect([...ints(memory, y, 128)]).toEqual(Array.from({ length: 128 }, (_, i) => 127 - i));
  });
  test('without it, the race is found', () => {
    const memory = new GlobalMemory();
    const y = memory.alloc('y', 512);
    expect(() => run(reverse(''), memory, [y])).toThrow(/nobody wrote|race/);
  });
  test('a warp cannot leave lanes behind at a barrier', () => {
    const text = kernel('y:u64', `${INDEX} setp.lt.u32 %p1, %r2, 5; @%p1 bar.sync 0; ret;`);
    const memory = new GlobalMemory();
    expect(() => run(text, memory, [memory.alloc('y', 4)])).toThrow(/5 of 32 lanes/);
  });
  test('overwriting what another thread reads is a race', () => {
    const text = kernel(
      'y:u64',
      `.shared .align 16 .b8 tile[512]; ${INDEX}
  shl.b32 %r4, %r2, 2; mov.u32 %r5, tile; add.s32 %r6, %r5, %r4; st.shared.u32 [%r6], %r2; bar.sync 0;
  ld.shared.u32 %r7, [tile]; st.shared.u32 [%r6], %r7; ret;`,
    );
    const memory = new GlobalMemory();
    expect(() => run(text, memory, [memory.alloc('y', 4)])).toThrow(/race: shared memory at byte 0 was (read|written)/);
  });
  const copies = (wait: string): string =>
    kernel(
      'x:u64 y:u64',
      `${INDEX}
  shl.b32 %r4, %r2, 4; mov.u32 %r5, dyn; add.s32 %r6, %r5, %r4; ld.param.u64 %rd1, [x]; mad.wide.u32 %rd2, %r2, 16, %rd1;
  setp.eq.u32 %p1, %r2, 3; selp.b32 %r10, 8, 16, %p1;
  cp.async.cg.shared.global [%r6], [%rd2], 16, %r10; cp.async.commit_group;
  add.s32 %r11, %r6, 2048;
  cp.async.cg.shared.global [%r11], [%rd2], 16; cp.async.commit_group;
  ${wait} bar.sync 0;
  xor.b32 %r7, %r2, 1; shl.b32 %r7, %r7, 4; add.s32 %r8, %r5, %r7; ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r8];
  ld.param.u64 %rd3, [y]; mad.wide.u32 %rd4, %r2, 16, %rd3; st.global.v4.f32 [%rd4], {%f1, %f2, %f3, %f4};
  cp.async.wait_all; ret;`,
    );
  test('cp.async delivers at the wait, zeros beyond its source size', () => {
    const memory = new GlobalMemory();
    const x = memory.alloc(
      'x',
      Float32Array.from({ length: 512 }, (_, i) => i),
    );
    const y = memory.alloc('y', 2048);
    run(copies('cp.async.wait_group 1;'), memory, [x, y], { shared: 4096 });
    const got = floats(memory, y, 512);
    expect([...got.subarray(0, 12)]).toEqual([4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 0, 0]);
  });
  test('a missing wait is found, and too small a shared memory', () => {
    const memory = new GlobalMemory();
    const x = memory.alloc('x', new Float32Array(512));
    const y = memory.alloc('y', 2048);
    expect(() => run(copies('cp.async.wait_group 2;'), memory, [x, y], { shared: 4096 })).toThrow(
      /cp.async is still writing/,
    );
    expect(() => run(copies('cp.async.wait_group 1;'), memory, [x, y], { shared: 4080 })).toThrow(
      /outside shared memory/,
    );
  });
});

describe('lanes together', () => {
  test('a warp sums by shuffles, a loop diverges, atomics add up', () => {
    const text = kernel(
      'y:u64 z:u64',
      `${INDEX}
  mov.u32 %r4, 0; mov.u32 %r5, 0;
LOOP: setp.ge.u32 %p1, %r5, %r2; @%p1 bra OUT; add.s32 %r4, %r4, %r5; add.s32 %r5, %r5, 1; bra LOOP;
OUT:
  mov.u32 %r10, %r4;
  shfl.sync.down.b32 %r6, %r10, 16, 31, -1; add.s32 %r10, %r10, %r6;
  shfl.sync.down.b32 %r6, %r10, 8, 31, -1; add.s32 %r10, %r10, %r6;
  shfl.sync.bfly.b32 %r6|%p2, %r10, 4, 31, -1; add.s32 %r10, %r10, %r6;
  shfl.sync.bfly.b32 %r6, %r10, 2, 31, -1; add.s32 %r10, %r10, %r6;
  shfl.sync.bfly.b32 %r6, %r10, 1, 31, -1; add.s32 %r10, %r10, %r6;
  mov.u32 %r7, %laneid; setp.eq.u32 %p3, %r7, 0;
  ld.param.u64 %rd1, [y]; ld.param.u64 %rd5, [z];
  @%p3 atom.global.add.u32 %r8, [%rd5], %r10;
  cvt.rn.f32.u32 %f1, %r4; red.global.add.f32 [%rd5+4], %f1;
  vote.sync.ballot.b32 %r9, %p3, -1;
  mad.wide.u32 %rd2, %r2, 8, %rd1; st.global.v2.u32 [%rd2], {%r4, %r9}; ret;`,
    );
    const memory = new GlobalMemory();
    const y = memory.alloc('y', 1024);
    const z = memory.alloc('z', new Int32Array(2));
    run(text, memory, [y, z]);
    const triangle = Array.from({ length: 128 }, (_, i) => (i * Math.abs(i - 1)) / 2);
    const sum = triangle.reduce((a, b) => a + b);
    expect([...ints(memory, y, 256)]).toEqual(triangle.flatMap((t) => [t, 1]));
    expect(ints(memory, z, 1)[0]).toBe(sum);
    expect(floats(memory, z, 2)[1]).toBe(sum);
  });
  test('shuffling from a lane that took another way is an error', () => {
    const text = kernel(
      'y:u64',
      `${INDEX} setp.lt.u32 %p1, %r2, 8; @%p1 bra OUT; shfl.sync.bfly.b32 %r6, %r2, 1, 31, -1; bra.uni END; OUT: mov.u32 %r6, 0; END: st.global.u32 [%rd1], %r6; ret;`,
    );
    const memory = new GlobalMemory();
    expect(() => run(text, memory, [memory.alloc('y', 4)])).toThrow(/lanes ffffff00 are here/);
  });
  test('ldmatrix and mma multiply a 16×16 by a 16×8 tile', () => {
    const a = Array.from({ length: 256 }, (_, i) => ((i * 7) % 13) - 6);
    const b = Array.from({ length: 128 }, (_, i) => ((i * 5) % 11) - 5);
    const text = kernel(
      'a:u64 b:u64 y:u64',
      `.shared .align 16 .b8 tile[768]; ${INDEX}
  mov.u32 %r20, tile; shl.b32 %r4, %r2, 4; add.s32 %r5, %r20, %r4;
  ld.param.u64 %rd1, [a]; mad.wide.u32 %rd1, %r2, 16, %rd1; ld.global.v4.b32 {%r6, %r7, %r8, %r9}, [%rd1]; st.shared.v4.b32 [%r5], {%r6, %r7, %r8, %r9};
  setp.lt.u32 %p1, %r2, 16; ld.param.u64 %rd2, [b]; mad.wide.u32 %rd2, %r2, 16, %rd2;
  @%p1 ld.global.v4.b32 {%r6, %r7, %r8, %r9}, [%rd2]; @%p1 st.shared.v4.b32 [%r5+512], {%r6, %r7, %r8, %r9};
  bar.warp.sync -1;
  and.b32 %r10, %r2, 15; shl.b32 %r10, %r10, 5; shr.u32 %r11, %r2, 4; shl.b32 %r11, %r11, 4; add.s32 %r10, %r10, %r11; add.s32 %r10, %r10, %r20;
  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r12, %r13, %r14, %r15}, [%r10];
  and.b32 %r16, %r2, 15; shl.b32 %r16, %r16, 4; add.s32 %r16, %r16, %r20;
  ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r17, %r18}, [%r16+512];
  mov.f32 %f1, 0f3F800000;
  mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2, %f3, %f4, %f5}, {%r12, %r13, %r14, %r15}, {%r17, %r18}, {%f1, %f1, %f1, %f1};
  shr.u32 %r21, %r2, 2; and.b32 %r22, %r2, 3; shl.b32 %r21, %r21, 5; shl.b32 %r22, %r22, 3; add.s32 %r21, %r21, %r22;
  ld.param.u64 %rd3, [y]; cvt.u64.u32 %rd4, %r21; add.s64 %rd4, %rd4, %rd3;
  st.global.v2.f32 [%rd4], {%f2, %f3}; st.global.v2.f32 [%rd4+256], {%f4, %f5}; ret;`,
      32,
    );
    const memory = new GlobalMemory();
    const pa = memory.alloc('a', Uint16Array.from(a, numberToF16));
    const pb = memory.alloc('b', Uint16Array.from(b, numberToF16));
    const y = memory.alloc('y', 512);
    run(text, memory, [pa, pb, y], { block: 32 });
    const want = Array.from({ length: 128 }, (_, i) => {
      let sum = 1;
      for (let k = 0; k < 16; k++) sum += a[(i >> 3) * 16 + k] * b[k * 8 + (i & 7)];
      return sum;
    });
    expect([...floats(memory, y, 128)]).toEqual(want);
  });
});

test('integers wrap, convert and compare as the ISA says', () => {
  const text = kernel(
    'y:u64',
    `${INDEX}
  ld.param.u64 %rd1, [y];
  mul.hi.u32 %r4, -1, -1; st.global.u32 [%rd1], %r4;
  mov.u64 %rd2, 0x7fffffffffffffff; add.s64 %rd3, %rd2, 1; shr.s64 %rd4, %rd3, 63; cvt.u32.u64 %r5, %rd4; st.global.u32 [%rd1+4], %r5;
  setp.lt.u32 %p1, -1, 1; selp.b32 %r6, 7, 9, %p1; st.global.u32 [%rd1+8], %r6;
  cvt.rni.s32.f32 %r7, 0f40200000; st.global.u32 [%rd1+12], %r7;
  cvt.rzi.u32.f32 %r8, 0fC0A00000; st.global.u32 [%rd1+16], %r8;
  mov.b32 %r9, 0x80FF; cvt.s32.s8 %r10, %r9; st.global.u32 [%rd1+20], %r10;
  cvt.rn.f16x2.f32 %r11, 0f3F800000, 0f40000000; st.global.u32 [%rd1+24], %r11;
  mov.b32 {%h1, %h2}, %r11; cvt.f32.f16 %f1, %h1; cvt.rzi.s32.f32 %r12, %f1; st.global.u32 [%rd1+28], %r12;
  prmt.b32 %r13, 0x33221100, 0x77665544, 0x7531; st.global.u32 [%rd1+32], %r13;
  lop3.b32 %r14, 0xF0, 0xCC, 0xAA, 0xE8; and.b32 %r14, %r14, 255; st.global.u32 [%rd1+36], %r14;
  div.s32 %r15, -7, 2; rem.s32 %r16, -7, 2; st.global.v2.u32 [%rd1+40], {%r15, %r16};
  shl.b32 %r17, 1, 33; st.global.u32 [%rd1+48], %r17;
  bfe.s32 %r18, 0xF0, 4, 4; st.global.u32 [%rd1+52], %r18;
  ret;`,
    32,
  );
  const memory = new GlobalMemory();
  const y = memory.alloc('y', 56);
  run(text, memory, [y], { block: 1 });
  expect([...ints(memory, y, 14)]).toEqual([-2, -1, 9, 2, 0, -1, 0x3c004000, 2, 0x77553311, 0xe8, -3, -1, 0, -1]);
});
