/** Checkpoints of PyTorch, old and new, against what PyTorch says is in them; and those that are hostile or damaged. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ModelError } from '../../src/core/errors.ts';
import { tensorBytes, toNumbers } from '../../src/core/tensor.ts';
import { readCheckpoint } from '../../src/torch/checkpoint.ts';
import { MISSING_TORCH, type WrittenTensor, writeCheckpoints } from '../oracles/checkpoints.ts';
import { hash } from '../random.ts';
import { fixture } from './fixtures.ts';
import { pickle, zipOf } from './handmade.ts';

function thrown(work: () => unknown): ModelError {
  try {
    work();
  } catch (error) {
    if (error instanceof ModelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe.skipIf(MISSING_TORCH)(`files ${MISSING_TORCH || 'that PyTorch writes here'}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-checkpoints-'));
  let written: Readonly<Record<string, WrittenTensor>> = {};
  beforeAll(() => {
    written = writeCheckpoints(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(['zip', 'legacy', 'nested', 'wrapped'])('%s.pth holds every dtype and view, bit for bit', (name) => {
    const tensors = readCheckpoint(readFileSync(join(folder, `${name}.pth`)));
    const got = Object.fromEntries(
      [...tensors].map(([key, t]) => [
        key,
        { dtype: t.dtype, shape: t.shape, data: Buffer.from(tensorBytes(t)).toString('base64') },
      ]),
    );
    expect(got).toEqual(written);
  });

  test('tensors that lie in row-major order are views on the file, also where they share a storage', () => {
    const bytes = new Uint8Array(readFileSync(join(folder, 'zip.pth')));
    const tensors = readCheckpoint(bytes);
    for (const name of ['contiguous', 'shared', 'f64', 'i64'])
      expect(tensors.get(name)?.data.buffer).toBe(bytes.buffer);
    expect(tensors.get('permuted')?.data.buffer).not.toBe(bytes.buffer);
  });
});

describe('files that PyTorch 2.11 wrote', () => {
  const expected = readCheckpoint(fixture('net.safetensors'));

  test.each(['ckpt.pth', 'legacy.pth'])(
    '%s: a nested state dict with a wrapper’s prefix is what safetensors hold',
    (name) => {
      const tensors = readCheckpoint(fixture(name));
      expect([...tensors.keys()].sort()).toEqual([...expected.keys()].sort());
      for (const [key, { dtype, shape, data }] of expected) {
        expect(tensors.get(key), key).toEqual({ dtype, shape, data });
      }
    },
  );

  test('bfloat16 is bfloat16', () => {
    const tensors = readCheckpoint(fixture('bf16.pth'));
    const weight = tensors.get('fc.weight');
    expect(weight?.dtype).toBe('bf16');
    const [got, want] = [toNumbers(weight!), toNumbers(expected.get('fc.weight')!)];
    for (let i = 0; i < got.length; i++)
      expect(Math.abs(got[i] - want[i])).toBeLessThanOrEqual(Math.abs(want[i]) / 256);
  });

  test('a whole module is refused by the name of its class', () => {
    const error = thrown(() => readCheckpoint(fixture('module.pth')));
    expect(error.code).toBe('torch-refused');
    expect(error.message).toContain('nets.ResNet');
    expect(error.hint).toContain('state_dict()');
  });
});

describe('hostile files', () => {
  const inZip = (data: Uint8Array, more: Record<string, Uint8Array> = {}): Uint8Array =>
    zipOf({ 'x/data.pkl': data, 'x/data/0': new Uint8Array(16), ...more });
  const read = (data: Uint8Array) => readCheckpoint(inZip(data));

  test('what a pickle wants to call is refused by name', () => {
    for (const [module, name] of [
      ['os', 'system'],
      ['posix', 'system'],
      ['builtins', 'eval'],
      ['__builtin__', 'getattr'],
      ['torch.hub', 'load'],
      ['torch', '__proto__'],
      ['collections', 'constructor'],
      ['torch.serialization', 'load'],
    ]) {
      for (const bytes of [pickle().global(module, name), pickle().text(module).text(name).op(0x93)]) {
        const error = thrown(() => read(bytes.text('echo').op('\x85R.').bytes()));
        expect([error.code, error.message]).toEqual(['torch-refused', expect.stringContaining(`${module}.${name}`)]);
      }
    }
  });

  test('nesting a million deep costs no more than its length', () => {
    for (const unit of ['(', ']', ')', '(l', '}', ']\x94']) {
      expect(thrown(() => read(pickle().op(unit.repeat(1e6)).op('.').bytes())).code).toBe('torch-parse');
    }
    const nested = pickle()
      .op(']'.repeat(1e6))
      .op('a'.repeat(1e6 - 1))
      .op('.');
    expect(thrown(() => read(nested.bytes())).message).toContain('no dict of tensors');
  });

  test('references to references do not multiply', () => {
    // Each list holds the one before it ten times: ten to the thirtieth leaves, if anyone walked them.
    const bomb = pickle().op(']q\x00');
    for (let i = 1; i < 30; i++) {
      bomb.op(`0](${`h${String.fromCharCode(i - 1)}`.repeat(10)}eq${String.fromCharCode(i)}`);
    }
    expect(thrown(() => read(bomb.op('.').bytes())).message).toContain('no dict of tensors');
  });

  test('a dict that holds itself ends', () => {
    expect(thrown(() => read(pickle().op('}q\x00').text('me').op('h\x00s.').bytes())).code).toBe('torch-parse');
  });

  test.each<readonly [string, readonly number[]]>([
    ['a string of 4 GiB', [0x58, 0xff, 0xff, 0xff, 0xff]],
    ['bytes of 2^63', [0x8e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    ['an integer of 1 GiB', [0x8b, 0, 0, 0, 0x40]],
    ['an opcode that is none', [0xff]],
    ['an extension registry', [0x82, 1]],
    ['a class instance', [0x69, 0x61, 0x0a, 0x62, 0x0a]],
    ['a memo entry that was never set', [0x68, 7]],
    ['nothing', []],
  ])('%s is an error', (_, bytes) => {
    expect(thrown(() => read(pickle().raw(bytes).bytes())).code).toBe('torch-parse');
  });

  const tensor = (
    count: number,
    offset: number,
    size: readonly number[],
    stride: readonly number[],
    cls = 'FloatStorage',
  ) =>
    pickle()
      .op('}')
      .text('w')
      .global('torch._utils', '_rebuild_tensor_v2')
      .op('((')
      .text('storage')
      .global('torch', cls)
      .text('0')
      .text('cpu')
      .int(count)
      .op('tQ')
      .int(offset)
      .op('(')
      .ints(size)
      .op('t(')
      .ints(stride)
      .op('t\x89NtRs.')
      .bytes();

  test('a tensor within its storage is read', () => {
    expect(read(tensor(4, 0, [2, 2], [2, 1])).get('w')).toEqual({
      dtype: 'f32',
      shape: [2, 2],
      data: new Float32Array(4),
    });
  });
  test.each<readonly [string, Uint8Array]>([
    ['beyond its storage', tensor(4, 1, [2, 2], [2, 1])],
    ['with strides beyond it', tensor(4, 0, [2, 2], [9, 1])],
    ['of negative strides', tensor(4, 3, [4], [-1])],
    ['of a negative offset', tensor(4, -1, [2], [1])],
    ['of 2^62 elements by strides of 0', tensor(4, 0, [2 ** 31, 2 ** 31 - 1], [0, 0])],
    ['of a gigabyte by strides of 0', tensor(4, 0, [2 ** 28], [0])],
    ['of fewer strides than dims', tensor(4, 0, [2, 2], [1])],
    ['whose storage is larger than its file', tensor(2 ** 31 - 1, 0, [4], [1])],
    ['of complex numbers', tensor(2, 0, [1], [1], 'ComplexFloatStorage')],
  ])('a tensor %s is an error that names it', (_, data) => {
    const error = thrown(() => read(data));
    expect(['torch-parse', 'torch-unsupported']).toContain(error.code);
    expect(error.message).toMatch(/"w"|ComplexFloatStorage/);
  });

  test('deflated entries are read, within what the directory says they are', () => {
    const data = tensor(4, 0, [4], [1]);
    const packed = { method: 8, packed: deflateRawSync(data) };
    expect(
      readCheckpoint(zipOf({ 'x/data/0': new Uint8Array(16) }, { 'x/data.pkl': { ...packed, bytes: data.length } }))
        .size,
    ).toBe(1);
    for (const bytes of [data.length - 1, data.length + 1, 2 ** 31]) {
      const archive = zipOf({ 'x/data/0': new Uint8Array(16) }, { 'x/data.pkl': { ...packed, bytes } });
      expect(thrown(() => readCheckpoint(archive)).code).toBe('torch-parse');
    }
  });

  test('TorchScript and archives without a pickle say what they are', () => {
    const script = inZip(pickle().op('N.').bytes(), { 'x/code/__torch__.py': new Uint8Array() });
    expect(thrown(() => readCheckpoint(script)).message).toContain('TorchScript');
    expect(thrown(() => readCheckpoint(zipOf({ 'a.txt': new Uint8Array(3) }))).message).toContain('data.pkl');
  });

  test('every damage to a file is one ModelError, or harmless', () => {
    let drawn = 0;
    const below = (n: number): number => Math.floor(hash(7, drawn++) * n);
    let refused = 0;
    for (const name of ['ckpt.pth', 'legacy.pth', 'net.safetensors']) {
      const sound = fixture(name);
      for (let round = 0; round < 400; round++) {
        const bytes = sound.slice(0, round % 4 === 0 ? below(sound.length) : sound.length);
        // Heads and tails are where lengths and offsets are.
        for (let i = below(6); i >= 0; i--) {
          const at = round % 2 === 0 ? below(bytes.length) : Math.min(bytes.length - 1, below(4000));
          if (bytes.length > 0) bytes[round % 3 === 0 ? bytes.length - 1 - at : at] = below(256);
        }
        try {
          readCheckpoint(bytes);
        } catch (error) {
          expect(error, `${name}, round ${round}`).toBeInstanceOf(ModelError);
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(300);
  });
});

describe('safetensors', () => {
  const file = (header: string, data = new Uint8Array(16)): Uint8Array => {
    const text = new TextEncoder().encode(header);
    const bytes = new Uint8Array(8 + text.length + data.length);
    new DataView(bytes.buffer).setUint32(0, text.length, true);
    bytes.set(text, 8);
    bytes.set(data, 8 + text.length);
    return bytes;
  };
  const tensor = (offsets: string, dtype = 'F32', shape = '[2,2]') =>
    file(`{"w":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}},"__metadata__":{"format":"pt"}}`);

  test('a sound file', () => {
    expect(readCheckpoint(tensor('[0,16]')).get('w')?.shape).toEqual([2, 2]);
  });
  test.each<readonly [string, Uint8Array, RegExp]>([
    ['a gap', tensor('[4,16]', 'F32', '[3]'), /begins at 4/],
    ['too short', tensor('[0,12]'), /16 bytes, but has 12/],
    ['out of the file', tensor('[0,32]', 'F32', '[8]'), /take 32 bytes, it has 16/],
    ['backwards', tensor('[16,0]'), /has -16/],
    ['a wrong dtype', tensor('[0,16]', 'F4'), /of type F4/],
    ['a dtype from the prototype', tensor('[0,16]', 'toString'), /of type toString/],
    ['no shape', tensor('[0,16]', 'F32', '"x"'), /no dtype or shape/],
    ['no integers', tensor('[0.5,16.5]'), /no data offsets/],
    ['no JSON', file('{"w":'), /no JSON/],
    ['null', file('{"w":null}'), /no dtype or shape/],
    ['nested too deep', file(`{"w":${'['.repeat(1e6)}`), /no JSON/],
  ])('%s is an error', (_, bytes, message) => {
    expect(thrown(() => readCheckpoint(bytes)).message).toMatch(message);
  });
});
