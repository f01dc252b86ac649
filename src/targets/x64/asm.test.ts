/** What the assembler makes of a kernel: which registers and how many instructions, on bytes. What the code computes is tested in tests/asm. */
import { describe, expect, test } from 'vitest';
import type { Asm, Reg } from '../cpu/asm.ts';
import { X64Asm } from './asm.ts';
import { Encoder } from './encode.ts';

function assemble(buffers: number, program: (asm: Asm) => void): string {
  const encoder = new Encoder();
  const asm = new X64Asm(encoder, buffers, 8);
  program(asm);
  asm.finish();
  return Array.from(encoder.finish(), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

/** and rsp, -32: only a function with slots on the stack does that. */
const FRAME = '48 83 e4 e0';
const times = (text: string, part: string): number => text.split(part).length - 1;

/** One k loop over a register tile, then bias and ReLU, as the contract templates write it. */
const tile =
  (rows: number, vectors: number) =>
  (asm: Asm): void => {
    const [, end, a, b, bias, out] = asm.params;
    const acc = Array.from({ length: rows * vectors }, () => {
      const sum = asm.reg('vf32');
      asm.move(sum, asm.const('vf32', 0));
      return sum;
    });
    const [pa, pb] = [asm.reg('ptr'), asm.reg('ptr')];
    asm.move(pa, a);
    asm.move(pb, b);
    asm.loop(asm.const('i32', 0), end, 1, () => {
      const panel = Array.from({ length: vectors }, (_, v) => asm.load('vf32', pb, 32 * v));
      for (let r = 0; r < rows; r++) {
        const splat = asm.load('splatf32', pa, 1024 * r);
        panel.forEach((vector, v) => {
          asm.fma(acc[r * vectors + v], splat, vector);
        });
      }
      asm.op('add', [pa, asm.const('ptr', 4)], pa);
      asm.op('add', [pb, asm.const('ptr', 32 * vectors)], pb);
    });
    const zero = asm.const('vf32', 0);
    const added = Array.from({ length: vectors }, (_, v) => asm.load('vf32', bias, 32 * v));
    acc.forEach((sum, i) => {
      const x = asm.op('add', [sum, added[i % vectors]]);
      asm.store('vf32', out, 32 * i, asm.select(asm.op('lt', [x, zero]), zero, x));
    });
  };

describe('registers', () => {
  test.each([
    [6, 2],
    [5, 2],
    [3, 3],
    [12, 1],
  ])('a tile of %i rows and %i vectors needs no stack', (rows, vectors) => {
    expect(times(assemble(4, tile(rows, vectors)), FRAME)).toBe(0);
  });

  test('a tile that fills all registers keeps its loop in them', () => {
    // The loop of 4×24: three loads, four splats, twelve products, and nothing by way of the stack ([rsp…] is a SIB byte 24).
    const code = assemble(4, tile(4, 3));
    const [head] = /c5 fc 10 [0-9a-f]{2} (?:c5 fc 10 [0-9a-f]{2} 20 )/.exec(code) ?? [];
    expect(head).toBeDefined();
    const loop = code.slice(code.indexOf(head as string), code.indexOf(' 0f 8c ', code.indexOf(head as string)));
    expect(times(loop, ' b8 ')).toBe(12);
    expect(loop).not.toMatch(/ [048c][4c] 24 /);
  });
});

describe('instructions', () => {
  /** for i: out[i] = max(a[i] + b[i], 0) */
  const relu = (asm: Asm): void => {
    const [begin, end, a, b, out] = asm.params;
    const c = (value: number): Reg => asm.const('vf32', value);
    asm.loop(begin, end, 8, (i) => {
      const at = (base: Reg): Reg => asm.address(base, i, 4);
      const x = asm.op('add', [asm.load('vf32', at(a), 0), asm.load('vf32', at(b), 0)]);
      asm.store('vf32', at(out), 0, asm.select(asm.op('lt', [x, c(0)]), c(0), x));
    });
  };

  test('a loop of a load, a sum with memory, a maximum, and a store', () => {
    const loop = [
      '48 63 f7', //             movsxd  rsi, edi
      'c4 c1 7c 10 04 b3', //    vmovups ymm0, [r11+rsi*4]
      'c4 c1 7c 58 0c b2', //    vaddps  ymm1, ymm0, [r10+rsi*4]
      'c5 f8 57 c0', //          vxorps  xmm0, xmm0, xmm0
      'c5 fc 5f c1', //          vmaxps  ymm0, ymm0, ymm1
      'c4 c1 7c 11 04 b1', //    vmovups [r9+rsi*4], ymm0
      '83 c7 08', //             add     edi, 8
      '41 3b f8', //             cmp     edi, r8d
      '0f 8c d7 ff ff ff', //    jl      -41
    ];
    expect(assemble(3, relu)).toContain(loop.join(' '));
  });

  test('the same program gives the same bytes', () => {
    expect(assemble(3, relu)).toBe(assemble(3, relu));
    expect(assemble(4, tile(4, 3))).toBe(assemble(4, tile(4, 3)));
  });

  test('what nothing reads is not there', () => {
    const unused = assemble(2, (asm) => {
      const x = asm.op('mul', [asm.params[0], asm.params[1]]);
      const y = asm.op('shl', [asm.op('abs', [x]), asm.const('i32', 3)]);
      const address = asm.address(asm.params[2], asm.op('sub', [y, x]), 12);
      const loaded = asm.load('vf32', address, 0);
      asm.op('max', [loaded, asm.op('add', [loaded, loaded])]);
    });
    expect(unused).toBe(assemble(1, () => {}));
  });
});
