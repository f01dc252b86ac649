/**
 * The PTX builder: every row of the instruction table through ptxas where that program is present, texts by hand elsewhere.
 */
import { describe, expect, it } from 'vitest';
import { assemble, ptxasIsPresent } from '../../../tests/ptx/ptxas.ts';
import { moduleText, type Operand, PtxKernel, type Reg } from './ptx.ts';
import { architecture, INSTRUCTIONS, type Instruction, instruction, type OperandType } from './ptx-instructions.ts';

const CHIPS = [75, 80, 90];

/** Operands for one instruction, whose values do not matter. */
function operandsFor(k: PtxKernel, name: string, row: Instruction): Operand[] {
  const bases = { shared: k.shared(1024), global: k.pointer() };
  let addresses = 0;
  const make = ({ type, count }: OperandType): Operand => {
    if (type === 'mem') {
      const second = addresses++ === 1;
      const shared = name.startsWith('cp.async') ? !second : !/global/.test(name) && /shared|mbarrier/.test(name);
      return k.at(shared ? bases.shared : bases.global);
    }
    if (type === 'imm')
      return name.startsWith('setmaxnreg') ? 64 : name.startsWith('wgmma.wait') ? 0 : (IMMEDIATES[name] ?? 1);
    return count > 0 ? Array.from({ length: count }, () => registerFor(k, type)) : registerFor(k, type);
  };
  return row.operands.map(make);
}

/** A register of the width that a PTX type has. */
function registerFor(k: PtxKernel, type: string): Reg {
  if (type === 'pred' || type === 'f32' || type === 'f64') return k.reg(type);
  return k.reg(/64$/.test(type) ? 'b64' : /^([bsuf]16|bf16)$/.test(type) ? 'b16' : 'b32');
}

const IMMEDIATES: { readonly [name: string]: number } = {
  'cp.async.ca.shared.global': 4,
  'cp.async.ca.shared.global#zfill': 4,
  ...Object.fromEntries([...INSTRUCTIONS.keys()].filter((n) => n.startsWith('cp.async.cg')).map((n) => [n, 16])),
};

describe('instructions', () => {
  it.skipIf(!ptxasIsPresent()).each(CHIPS)('ptxas takes every row that sm_%i has', (chip) => {
    const kernels = [...INSTRUCTIONS]
      .filter(([, row]) => row.capability <= chip)
      .map(([name, row], i) => {
        const k = new PtxKernel(`row${i}`, chip);
        const results = row.results.map(({ type, count }) =>
          count > 0 ? Array.from({ length: count }, () => registerFor(k, type)) : registerFor(k, type),
        );
        const operands = operandsFor(k, name, row);
        if (results.length === 0) k.do(name, ...operands);
        else k.to(results[0], name, ...operands);
        return k;
      });
    for (const exact of [false, true]) {
      const part = kernels.filter((k) => k.exact === exact);
      if (part.length > 0) expect(assemble(moduleText(chip, part), exact ? `sm_${chip}a` : `sm_${chip}`)).toBe('');
    }
  });

  it('reads the braces of its rows', () => {
    expect(instruction('setp.lt.s32').operands.map((o) => o.type)).toEqual(['s32', 's32']);
    expect(instruction('cvt.rzi.s64.f32')).toMatchObject({ results: [{ type: 'b64' }], operands: [{ type: 'f32' }] });
    expect(instruction('cvt.rn.f32.u64')).toMatchObject({ results: [{ type: 'f32' }], operands: [{ type: 'u64' }] });
    expect(instruction('mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32').operands.map((o) => o.count)).toEqual([
      4, 2, 4,
    ]);
    expect(() => instruction('add.f33')).toThrow('no row');
  });

  it('chips newer than the last architecture run its code', () => {
    expect(architecture(120)).toEqual({ version: '8.0', target: 'sm_90' });
    expect(architecture(86).target).toBe('sm_86');
    expect(() => architecture(70)).toThrow('below 75');
  });
});

describe('kernels', () => {
  it('are written as the recipe says', () => {
    const k = new PtxKernel('scale', 90, { maxThreads: 256 });
    const [x, y] = [k.pointer(), k.pointer()];
    const n = k.word();
    const i = k.op('mad.lo.u32', k.special('ctaid.x'), 256, k.special('tid.x'));
    k.if(k.op('setp.lt.u32', i, n), () => {
      const [v] = k.load('global.nc', 'f32', k.at(k.op('mad.wide.u32', i, 4, x)));
      k.store('global', 'f32', k.at(k.op('mad.wide.u32', i, 4, y), 8), [k.op('mul.f32', v, 0.5)]);
    });
    expect(moduleText(90, [k])).toMatchInlineSnapshot(`
      ".version 8.0
      .target sm_90
      .address_size 64
      .visible .entry scale(
        .param .u64 scale_0,
        .param .u64 scale_1,
        .param .u32 scale_2
      )
      .maxntid 256, 1, 1
      {
        .reg .b32 %r<5>;
        .reg .b64 %d<7>;
        .reg .f32 %f<3>;
        .reg .pred %p<2>;
        ld.param.u64 %d1, [scale_0];
        cvta.to.global.u64 %d2, %d1;
        ld.param.u64 %d3, [scale_1];
        cvta.to.global.u64 %d4, %d3;
        ld.param.u32 %r1, [scale_2];
        mov.u32 %r2, %ctaid.x;
        mov.u32 %r3, %tid.x;
        mad.lo.u32 %r4, %r2, 256, %r3;
        setp.lt.u32 %p1, %r4, %r1;
        @!%p1 bra $scale_1;
        mad.wide.u32 %d5, %r4, 4, %d2;
        ld.global.nc.f32 %f1, [%d5];
        mad.wide.u32 %d6, %r4, 4, %d4;
        mul.f32 %f2, %f1, 0f3F000000;
        st.global.f32 [%d6+8], %f2;
      $scale_1:
        ret;
      }
      "
    `);
  });

  it('share equal instructions within a scope, never on registers that change', () => {
    const k = new PtxKernel('share', 80);
    const tid = k.special('tid.x');
    const twice = k.op('add.s32', tid, 1);
    expect(k.op('add.s32', tid, 1)).toBe(twice);
    const counter = k.reg('b32');
    k.move(counter, 0);
    expect(k.op('add.s32', counter, 1)).not.toBe(k.op('add.s32', counter, 1));
    let inside: Reg | undefined;
    k.if(k.op('setp.lt.u32', tid, 4), () => {
      inside = k.op('add.s32', tid, 2);
      expect(k.op('add.s32', tid, 1)).toBe(twice);
    });
    expect(k.op('add.s32', tid, 2)).not.toBe(inside);
  });

  it('refuse what the table does not allow', () => {
    const k = new PtxKernel('wrong', 75);
    const [f, r] = [k.reg('f32'), k.reg('b32')];
    expect(() => k.op('add.f32', f)).toThrow('takes 3 operands, got 2');
    expect(() => k.op('add.f32', f, r)).toThrow('wants f32, got a b32 register');
    expect(() => k.op('add.s32', r, 0.5)).toThrow('0.5 is no s32');
    expect(() => k.op('min.NaN.f32', f, f)).toThrow('needs sm_80');
    expect(() => k.store('global', 'f32', k.at(k.reg('b64')), [r])).toThrow('st.f32 of a b32');
    expect(() => k.op('cp.async.wait_group', 1)).toThrow('not one result');
  });
});
