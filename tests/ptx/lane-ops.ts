/**
 * Instructions that each lane runs for itself: one row each, from operands to JavaScript. Read with the PTX ISA, chapter 9.
 *
 * A row gets the writer and the instruction; `type` is the last modifier. `.ftz` is not modelled; approximations are computed exactly.
 */
import type { Codegen } from './codegen.ts';
import { bytesOf, type Instruction, type Operand, PtxError } from './parse.ts';

type Row = (g: Codegen, ins: Instruction) => void;

const last = (ins: Instruction): string => ins.mods[ins.mods.length - 1];
const isWide = (t: string): boolean => bytesOf(t) === 8 && t !== 'f64';
const isHalf = (t: string): boolean => t === 'f16' || t === 'bf16';
const isPair = (t: string): boolean => t === 'f16x2' || t === 'bf16x2';

/** A float operation on each element, by `f` from operand sources to a source. */
function floats(
  g: Codegen,
  ins: Instruction,
  type: string,
  count: number,
  f: (...x: string[]) => string,
  finish = '',
): void {
  const [d, ...s] = ins.operands;
  const end = (x: string): string =>
    ins.mods.includes('sat') ? `Math.min(Math.max(${x},0),1)` : ins.mods.includes('relu') ? `Math.max(${x},0)` : x;
  if (isPair(type)) {
    const half = type.slice(0, -2);
    const x = s.slice(0, count).map((o) => hold(g, g.read(o, type)));
    const part = (by: number): string =>
      `v.toHalf.${half}(${end(f(...x.map((n) => `v.tables.${half}[(${n}>>>${by})&65535]`)))})`;
    g.write(d, type, `${part(0)}|(${part(16)}<<16)`);
  } else if (isHalf(type)) {
    const x = s.slice(0, count).map((o) => `v.tables.${type}[${g.read(o, type)}]`);
    g.write(d, type, `v.toHalf.${type}(${end(f(...x))})`);
  } else {
    const x = s.slice(0, count).map((o) => g.read(o, type));
    const value = end(f(...x));
    g.write(d, type, type === 'f32' ? (finish ? value : `Math.fround(${value})`) : value);
  }
}

const hold = (g: Codegen, x: string): string => {
  const t = g.temp();
  g.lines.push(`const ${t}=${x};`);
  return t;
};
const isFloat = (t: string): boolean => t === 'f32' || t === 'f64' || isHalf(t) || isPair(t);

const arithmetic =
  (op: 'add' | 'sub'): Row =>
  (g, ins) => {
    const type = last(ins);
    const sign = op === 'add' ? '+' : '-';
    if (isFloat(type)) {
      floats(g, ins, type, 2, (a, b) => `${a}${sign}${b}`);
      return;
    }
    const [d, a, b] = ins.operands;
    const [x, y] = [g.read(a, type), g.read(b, type)];
    if (ins.mods.includes('cc')) throw new PtxError('carries are not supported');
    if (ins.mods.includes('sat')) g.write(d, type, `Math.min(Math.max(${x}${sign}${y},-2147483648),2147483647)`);
    else g.write(d, type, isWide(type) ? `v.${op}64(${x},${y})` : `${x}${sign}${y}`);
  };

function multiply(g: Codegen, ins: Instruction, addend: Operand | undefined): void {
  const type = last(ins);
  const [d, a, b] = ins.operands;
  const [x, y] = [g.read(a, type), g.read(b, type)];
  const isSigned = type.startsWith('s');
  if (ins.mods.includes('wide')) {
    const out = bytesOf(type) === 4 ? 'b64' : 'b32';
    const product = out === 'b64' ? `v.mul64(${x},${y})` : `Math.imul(${x},${y})`;
    const z = addend && g.read(addend, out);
    g.write(d, out, z === undefined ? product : out === 'b64' ? `v.add64(${product},${z})` : `${product}+${z}`);
    return;
  }
  const high = ins.mods.includes('hi');
  const z = addend && g.read(addend, type);
  if (isWide(type)) {
    const product = high ? `v.big64('mulhi',${x},${y},${!isSigned})` : `v.mul64(${x},${y})`;
    g.write(d, type, z === undefined ? product : `v.add64(${product},${z})`);
  } else if (bytesOf(type) === 4) {
    const product = high ? `v.mulhi32(${x}|0,${y}|0,${isSigned})` : `Math.imul(${x},${y})`;
    g.write(d, type, z === undefined ? product : `${product}+${z}`);
  } else g.write(d, type, `${high ? `(${x}*${y}>>16)` : `Math.imul(${x},${y})`}${z === undefined ? '' : `+${z}`}`);
}

const fma: Row = (g, ins) => {
  const type = last(ins);
  floats(
    g,
    ins,
    type,
    3,
    (a, b, c) => (type === 'f32' ? `v.fma32(${a},${b},${c})` : `${a}*${b}+${c}`),
    type === 'f32' ? 'rounded' : '',
  );
};

const divide =
  (op: 'div' | 'rem'): Row =>
  (g, ins) => {
    const type = last(ins);
    if (isFloat(type)) {
      floats(g, ins, type, 2, (a, b) => `${a}/${b}`);
      return;
    }
    const [d, a, b] = ins.operands;
    const [x, y] = [hold(g, g.read(a, type)), hold(g, g.read(b, type))];
    if (isWide(type)) g.write(d, type, `v.big64('${op}',${x},${y},${type.startsWith('u')})`);
    else g.write(d, type, op === 'div' ? `${y}===0?-1:Math.trunc(${x}/${y})` : `${y}===0?${x}:${x}%${y}`);
  };

const extreme =
  (op: 'min' | 'max'): Row =>
  (g, ins) => {
    const type = last(ins);
    if (isFloat(type)) {
      floats(g, ins, type, 2, (a, b) => `v.minMax('${op}',${a},${b},${ins.mods.includes('NaN')})`);
      return;
    }
    const [d, a, b] = ins.operands;
    const [x, y] = [g.read(a, type), g.read(b, type)];
    g.write(d, type, isWide(type) ? `v.big64('${op}',${x},${y},${type.startsWith('u')})` : `Math.${op}(${x},${y})`);
  };

const bitwise =
  (op: 'and' | 'or' | 'xor'): Row =>
  (g, ins) => {
    const type = last(ins);
    const [d, a, b] = ins.operands;
    const [x, y] = [g.read(a, type), g.read(b, type)];
    g.write(
      d,
      type,
      isWide(type) ? `v.big64('${op}',${x},${y},false)` : `${x}${{ and: '&', or: '|', xor: '^' }[op]}${y}`,
    );
  };

const shift =
  (left: boolean): Row =>
  (g, ins) => {
    const type = last(ins);
    const [d, a, b] = ins.operands;
    const by = hold(g, g.read(b, 'u32'));
    const x = g.read(a, type);
    const isSigned = type.startsWith('s');
    if (isWide(type)) g.write(d, type, left ? `v.shl64(${x},${by})` : `v.shr64(${x},${by},${isSigned})`);
    else if (left) g.write(d, type, `${by}>31?0:${x}<<${by}`);
    else g.write(d, type, isSigned ? `${x}>>Math.min(${by},31)` : `${by}>31?0:(${x}>>>0)>>>${by}`);
  };

const unaryFloat =
  (f: (x: string) => string): Row =>
  (g, ins) =>
    floats(g, ins, last(ins), 1, f);

const COMPARE: Readonly<Record<string, string>> = {
  eq: '===',
  ne: '!==',
  lt: '<',
  le: '<=',
  gt: '>',
  ge: '>=',
  lo: '<',
  ls: '<=',
  hi: '>',
  hs: '>=',
};

/** The source of a comparison of two operands. */
function comparison(g: Codegen, name: string, type: string, a: Operand, b: Operand): string {
  if (isWide(type)) {
    const c = COMPARE[name];
    return `v.compare64(${g.read(a, type)},${g.read(b, type)},${type.startsWith('u') || (name.length === 2 && /lo|ls|hi|hs/.test(name))})${c}0`;
  }
  const kind = /^(lo|ls|hi|hs)$/.test(name) && bytesOf(type) === 4 ? 'u32' : type;
  const value = (o: Operand): string => (isHalf(kind) ? `v.tables.${kind}[${g.read(o, kind)}]` : g.read(o, kind));
  const [x, y] = [hold(g, value(a)), hold(g, value(b))];
  if (name === 'num') return `(${x}===${x}&&${y}===${y})`;
  if (name === 'nan') return `(${x}!==${x}||${y}!==${y})`;
  if (isFloat(kind) && name === 'ne') return `(${x}===${x}&&${y}===${y}&&${x}!==${y})`;
  if (isFloat(kind) && name.length === 3 && name.endsWith('u')) {
    const ordered = COMPARE[name.slice(0, 2)];
    return `(${x}!==${x}||${y}!==${y}||${x}${ordered}${y})`;
  }
  return `(${x}${COMPARE[name]}${y})`;
}

const setp: Row = (g, ins) => {
  const type = last(ins);
  const [name, combine] = ins.mods.filter((m) => m !== 'ftz');
  const [d, a, b, c] = ins.operands;
  if (isPair(type)) throw new PtxError('setp on pairs is not supported');
  const cmp = hold(g, comparison(g, name, type, a, b));
  const p = c && hold(g, g.read(c, 'pred'));
  const join = (x: string): string =>
    !p ? x : combine === 'and' ? `${x}&&${p}` : combine === 'or' ? `${x}||${p}` : `(${x}?1:0)!==(${p}?1:0)`;
  if (d.kind === 'pair') {
    g.write(d.a, 'pred', join(cmp));
    g.write(d.b, 'pred', join(`!${cmp}`));
  } else g.write(d, 'pred', join(cmp));
};

const set: Row = (g, ins) => {
  const type = last(ins);
  const out = ins.mods[ins.mods.length - 2];
  const [d, a, b] = ins.operands;
  const cmp = comparison(g, ins.mods[0], type, a, b);
  g.write(d, out, out === 'f32' ? `${cmp}?1:0` : `${cmp}?-1:0`);
};

const selp: Row = (g, ins) => {
  const type = last(ins);
  const [d, a, b, p] = ins.operands;
  g.write(d, type, `${g.read(p, 'pred')}?${g.read(a, type)}:${g.read(b, type)}`);
};

const mov: Row = (g, ins) => {
  const type = last(ins);
  const [d, a] = ins.operands;
  if (d.kind === 'list') {
    const bits = (bytesOf(type) * 8) / d.items.length;
    const x = hold(g, g.read(a, type));
    for (const [i, item] of d.items.entries()) {
      if (bits === 32) g.write(item, 'b32', `v.low32(v.shr64(${x},${32 * i},false))`);
      else if (bytesOf(type) === 8) g.write(item, 'b16', `v.low32(v.shr64(${x},${bits * i},false))`);
      else g.write(item, bits === 16 ? 'b16' : 'u8', `(${x}>>>${bits * i})&${2 ** bits - 1}`);
    }
  } else if (a.kind === 'list') {
    const bits = (bytesOf(type) * 8) / a.items.length;
    const parts = a.items.map((x) => g.read(x, bits === 32 ? 'b32' : 'b16'));
    if (bytesOf(type) === 8) {
      const sum = parts.map((p, i) => `(BigInt((${p})>>>0)<<${bits * i}n)`).join('|');
      g.write(d, type, `v.wide(${sum})`);
    } else g.write(d, type, parts.map((p, i) => `((${p})<<${bits * i})`).join('|'));
  } else g.write(d, type, g.read(a, type));
};

const cvt: Row = (g, ins) => {
  const types = ins.mods.filter((m) => /^([usbf]\d+|bf16|bf16x2|f16x2|tf32)$/.test(m));
  const [out, from] = types;
  const rounding = ins.mods.find((m) => /^r[nzmp]i?$|^rna$/.test(m)) ?? '';
  const [d, a, b] = ins.operands;
  const finish = (x: string): string =>
    ins.mods.includes('sat') && isFloat(out)
      ? `v.minMax('min',v.minMax('max',${x},0,false),1,false)`
      : ins.mods.includes('relu')
        ? `Math.max(${x},0)`
        : x;
  if (isPair(out)) {
    const half = out.slice(0, -2);
    const [high, low] = [a, b].map((o) => `v.toHalf.${half}(${finish(g.read(o, 'f32'))})`);
    g.write(d, out, `(${high}<<16)|${low}`);
    return;
  }
  if (out === 'tf32') {
    g.write(d, 'b32', `v.toTf32(${g.read(a, 'f32')})`);
    return;
  }
  const x = isHalf(from) ? `v.tables.${from}[${g.read(a, from)}]` : g.read(a, from);
  if (isFloat(from)) {
    if (!isFloat(out)) {
      g.write(d, bytesOf(out) === 8 ? 'b64' : out, `v.toInteger(${x},'${rounding}','${out}')`);
      return;
    }
    const rounded = rounding.endsWith('i') ? `v.roundFloat(${x},'${rounding}')` : x;
    if (isHalf(out)) g.write(d, out, `v.toHalf.${out}(${finish(rounded)})`);
    else g.write(d, out, finish(out === 'f32' ? `v.narrow(${rounded},'${rounding || 'rn'}')` : rounded));
    return;
  }
  if (isFloat(out)) {
    const value = isWide(from) ? `Number(${from.startsWith('u') ? `v.unsigned(${x})` : x})` : x;
    if (isHalf(out)) g.write(d, out, `v.toHalf.${out}(${value})`);
    else g.write(d, out, out === 'f32' ? `v.narrow(${value},'${rounding}')` : value);
    return;
  }
  if (ins.mods.includes('sat')) {
    const value = isWide(from) ? `Number(${from.startsWith('u') ? `v.unsigned(${x})` : x})` : x;
    g.write(d, out, `v.toInteger(${value},'rzi','${out}')`);
  } else if (isWide(out)) g.write(d, 'b64', isWide(from) ? x : `(${x})`);
  else if (isWide(from)) g.write(d, out, out.endsWith('8') ? signs8(`v.low32(${x})`, out) : `v.low32(${x})`);
  else g.write(d, out, out.endsWith('8') ? signs8(x, out) : x);
};
const signs8 = (x: string, type: string): string => (type === 's8' ? `(${x})<<24>>24` : `(${x})&255`);

const SPACES = new Set([
  'global',
  'shared',
  'local',
  'param',
  'const',
  'shared::cta',
  'shared::cluster',
  'param::entry',
]);

/** The view and its shift for elements of a type. */
const VIEWS: Readonly<Record<number, readonly [string, number]>> = {
  1: ['u8', 0],
  2: ['i16', 1],
  4: ['i32', 2],
  8: ['i64', 3],
};

/** Accesses that may meet those of others. */
const STRONG: ReadonlySet<string> = new Set(['relaxed', 'acquire', 'release', 'volatile']);

function access(g: Codegen, ins: Instruction, isStore: boolean): void {
  const type = last(ins);
  const space = ins.mods.find((m) => SPACES.has(m))?.split('::')[0] ?? 'generic';
  const count = Number(ins.mods.find((m) => /^v\d$/.test(m))?.slice(1) ?? 1);
  const size = bytesOf(type);
  const [first, second] = ins.operands;
  const values = isStore ? second : first;
  const items = values.kind === 'list' ? values.items : [values];
  if (items.length !== count) throw new PtxError(`${ins.text}: ${items.length} operands for v${count}`);
  const address = g.address(isStore ? first : second);
  const [m, at] = [g.temp(), g.temp()];
  const thread = 't';
  if (ins.mods.includes('shared::cluster')) {
    g.lines.push(`const ${m}=w.remote(${address}),${at}=w.remoteAt(${address},${size * count},${isStore});`);
  } else if (space === 'shared')
    g.lines.push(
      `const ${m}=w.block.shared,${at}=${m}.${isStore ? 'write' : 'read'}(${address},${size * count},${thread});`,
    );
  else if (space === 'local') g.lines.push(`const ${m}=w.local,${at}=w.localAt(${address},${size * count},l);`);
  else if (space === 'param') g.lines.push(`const ${m}=w.params,${at}=${address};`);
  else if (space === 'generic')
    g.lines.push(`const ${m}=w.spaceOf(${address}),${at}=w.generic(${address},${size * count},${isStore},${thread});`);
  else if (ins.mods.some((mod) => STRONG.has(mod))) {
    g.lines.push(`const ${m}=w.global,${at}=${m}.at(${address},${size * count},${isStore});`);
    if (ins.mods.includes('acquire')) g.lines.push(`w.acquire(${at});`);
    if (ins.mods.includes('release')) g.lines.push(`w.release(${at});`);
    // Whoever looks for what others do should let them.
    if (!isStore) g.lines.push('w.yields=true;');
  } else g.lines.push(`const ${m}=w.global,${at}=w.globalAt(${address},${size * count},${isStore});`);
  const [name, by] = type === 'f32' ? ['f32', 2] : type === 'f64' ? ['f64', 3] : VIEWS[size];
  for (const [i, item] of items.entries()) {
    const place = `${m}.${name}[(${at}+${i * size})>>${by}]`;
    if (isStore)
      g.lines.push(`${place}=${size === 8 && type !== 'f64' ? `BigInt(${g.read(item, type)})` : g.read(item, type)};`);
    else {
      const raw =
        size === 8 && type !== 'f64'
          ? `v.wide(${place})`
          : type === 's8'
            ? `${place}<<24>>24`
            : type === 's16'
              ? `${place}<<16>>16`
              : place;
      g.write(item, type, raw);
    }
  }
}

const ATOMIC: Readonly<Record<string, (old: string, x: string, type: string) => string>> = {
  add: (o, x, t) => (isWide(t) ? `v.add64(${o},${x})` : t === 'f32' ? `Math.fround(${o}+${x})` : `${o}+${x}`),
  min: (o, x, t) => (isWide(t) ? `v.big64('min',${o},${x},${t.startsWith('u')})` : `Math.min(${o},${x})`),
  max: (o, x, t) => (isWide(t) ? `v.big64('max',${o},${x},${t.startsWith('u')})` : `Math.max(${o},${x})`),
  and: (o, x, t) => (isWide(t) ? `v.big64('and',${o},${x},false)` : `${o}&${x}`),
  or: (o, x, t) => (isWide(t) ? `v.big64('or',${o},${x},false)` : `${o}|${x}`),
  xor: (o, x, t) => (isWide(t) ? `v.big64('xor',${o},${x},false)` : `${o}^${x}`),
  exch: (_, x) => x,
  inc: (o, x) => `(${o}>=${x}?0:${o}+1)`,
  dec: (o, x) => `(${o}===0||${o}>${x}?${x}:${o}-1)`,
};

function atomic(g: Codegen, ins: Instruction, hasResult: boolean): void {
  const type = last(ins) === 'noftz' ? ins.mods[ins.mods.length - 2] : last(ins);
  const op = ins.mods.find((m) => m in ATOMIC || m === 'cas') as string;
  const count = Number(ins.mods.find((m) => /^v\d$/.test(m))?.slice(1) ?? 1);
  const operands = hasResult ? ins.operands : [undefined, ...ins.operands];
  const [d, place, x, y] = operands;
  const size = bytesOf(isPair(type) ? 'b32' : type);
  const address = g.address(place);
  const [m, at] = [g.temp(), g.temp()];
  if (ins.mods.some((s) => s.startsWith('shared')))
    g.lines.push(`const ${m}=w.block.shared,${at}=${m}.atomicAt(${address},${size * count},t);`);
  else {
    g.lines.push(`const ${m}=w.global,${at}=${m}.at(${address},${size * count},true);`);
    const both = ins.mods.includes('acq_rel');
    if (both || ins.mods.includes('acquire')) g.lines.push(`w.acquire(${at});`);
    if (both || ins.mods.includes('release')) g.lines.push(`w.release(${at});`);
  }
  const values = x?.kind === 'list' ? x.items : [x as Operand];
  for (const [i, item] of values.entries()) {
    const [name, by] = type === 'f32' ? ['f32', 2] : type === 'f64' ? ['f64', 3] : VIEWS[size];
    const cell = `${m}.${name}[(${at}+${i * size})>>${by}]`;
    const half = isPair(type) ? type.slice(0, -2) : type;
    const old = hold(g, isWide(type) ? `v.wide(${cell})` : type === 'u32' ? `${cell}>>>0` : cell);
    const value = g.read(item, type);
    let next: string;
    if (op === 'cas')
      next = isWide(type)
        ? `v.compare64(${old},${value},false)===0?${g.read(y, type)}:${old}`
        : `${old}===${value}?${g.read(y, type)}:${old}`;
    else if (isPair(type)) {
      const held = hold(g, value);
      const part = (by: number): string =>
        `v.toHalf.${half}(${ATOMIC[op](`v.tables.${half}[(${old}>>>${by})&65535]`, `v.tables.${half}[(${held}>>>${by})&65535]`, 'f64')})`;
      next = `${part(0)}|(${part(16)}<<16)`;
    } else if (isHalf(type))
      next = `v.toHalf.${half}(${ATOMIC[op](`v.tables.${half}[${old}]`, `v.tables.${half}[${value}]`, 'f64')})`;
    else next = ATOMIC[op](old, value, type);
    g.lines.push(`${cell}=${isWide(type) ? `BigInt(${next})` : next};`);
    if (hasResult) g.write(d?.kind === 'list' ? d.items[i] : d, type, old);
  }
}

const integerUnary =
  (f: (x: string, type: string) => string, out?: string): Row =>
  (g, ins) => {
    const type = last(ins);
    const [d, a] = ins.operands;
    g.write(d, out ?? type, f(g.read(a, type), type));
  };

const nothing: Row = () => undefined;

export const LANE_OPS: Readonly<Record<string, Row>> = {
  add: arithmetic('add'),
  sub: arithmetic('sub'),
  mul: (g, ins) =>
    isFloat(last(ins)) ? floats(g, ins, last(ins), 2, (a, b) => `${a}*${b}`) : multiply(g, ins, undefined),
  mad: (g, ins) => (isFloat(last(ins)) ? fma(g, ins) : multiply(g, ins, ins.operands[3])),
  mul24: (g, ins) => multiply(g, ins, undefined),
  fma,
  div: divide('div'),
  rem: divide('rem'),
  min: extreme('min'),
  max: extreme('max'),
  and: (g, ins) =>
    last(ins) === 'pred'
      ? g.write(ins.operands[0], 'pred', `${g.read(ins.operands[1], 'pred')}&${g.read(ins.operands[2], 'pred')}`)
      : bitwise('and')(g, ins),
  or: (g, ins) =>
    last(ins) === 'pred'
      ? g.write(ins.operands[0], 'pred', `${g.read(ins.operands[1], 'pred')}|${g.read(ins.operands[2], 'pred')}`)
      : bitwise('or')(g, ins),
  xor: (g, ins) =>
    last(ins) === 'pred'
      ? g.write(ins.operands[0], 'pred', `${g.read(ins.operands[1], 'pred')}^${g.read(ins.operands[2], 'pred')}`)
      : bitwise('xor')(g, ins),
  not: (g, ins) =>
    last(ins) === 'pred'
      ? g.write(ins.operands[0], 'pred', `!${g.read(ins.operands[1], 'pred')}`)
      : integerUnary((x, t) => (isWide(t) ? `v.sub64(-1,${x})` : `~${x}`))(g, ins),
  shl: shift(true),
  shr: shift(false),
  neg: (g, ins) =>
    isFloat(last(ins))
      ? floats(g, ins, last(ins), 1, (x) => `-(${x})`)
      : integerUnary((x, t) => (isWide(t) ? `v.sub64(0,${x})` : `-${x}`))(g, ins),
  abs: (g, ins) =>
    isFloat(last(ins))
      ? floats(g, ins, last(ins), 1, (x) => `Math.abs(${x})`)
      : integerUnary((x, t) => (isWide(t) ? `(v.compare64(${x},0,false)<0?v.sub64(0,${x}):${x})` : `Math.abs(${x})`))(
          g,
          ins,
        ),
  rcp: unaryFloat((x) => `1/${x}`),
  sqrt: unaryFloat((x) => `Math.sqrt(${x})`),
  rsqrt: unaryFloat((x) => `1/Math.sqrt(${x})`),
  ex2: unaryFloat((x) => `2**${x}`),
  lg2: unaryFloat((x) => `Math.log2(${x})`),
  sin: unaryFloat((x) => `Math.sin(${x})`),
  cos: unaryFloat((x) => `Math.cos(${x})`),
  tanh: unaryFloat((x) => `Math.tanh(${x})`),
  copysign: (g, ins) =>
    floats(g, ins, last(ins), 2, (a, b) => `(Object.is(Math.sign(${a}),-0)||${a}<0?-Math.abs(${b}):Math.abs(${b}))`),
  testp: (g, ins) => {
    const x = hold(g, g.read(ins.operands[1], last(ins)));
    const kind = ins.mods[0];
    if (!['finite', 'infinite', 'notanumber', 'number'].includes(kind)) throw new PtxError(`testp.${kind}`);
    g.write(
      ins.operands[0],
      'pred',
      {
        finite: `Number.isFinite(${x})`,
        infinite: `Math.abs(${x})===Infinity`,
        notanumber: `${x}!==${x}`,
        number: `${x}===${x}`,
      }[kind] as string,
    );
  },
  clz: integerUnary(
    (x, t) =>
      isWide(t)
        ? `(v.low32(v.shr64(${x},32,false))?Math.clz32(v.low32(v.shr64(${x},32,false))):32+Math.clz32(v.low32(${x})))`
        : `Math.clz32(${x})`,
    'b32',
  ),
  popc: integerUnary(
    (x, t) => (isWide(t) ? `v.popc(v.low32(${x}))+v.popc(v.low32(v.shr64(${x},32,false)))` : `v.popc(${x})`),
    'b32',
  ),
  brev: integerUnary((x) => `v.brev(${x})`),
  bfe: (g, ins) =>
    g.write(
      ins.operands[0],
      last(ins),
      `v.bfe(${g.read(ins.operands[1], last(ins))},${g.read(ins.operands[2], 'b32')},${g.read(ins.operands[3], 'b32')},${last(ins) === 's32'})`,
    ),
  bfi: (g, ins) =>
    g.write(
      ins.operands[0],
      'b32',
      `v.bfi(${ins.operands
        .slice(1)
        .map((o) => g.read(o, 'b32'))
        .join(',')})`,
    ),
  prmt: (g, ins) =>
    g.write(
      ins.operands[0],
      'b32',
      `v.permute(${ins.operands
        .slice(1)
        .map((o) => g.read(o, 'b32'))
        .join(',')})`,
    ),
  lop3: (g, ins) =>
    g.write(
      ins.operands[0],
      'b32',
      `v.lop3(${ins.operands
        .slice(1)
        .map((o) => g.read(o, 'b32'))
        .join(',')})`,
    ),
  shf: (g, ins) =>
    g.write(
      ins.operands[0],
      'b32',
      `v.funnel(${ins.operands
        .slice(1)
        .map((o) => g.read(o, 'b32'))
        .join(',')},${ins.mods[0] === 'l'},${ins.mods[1] === 'wrap'})`,
    ),
  dp4a: (g, ins) => {
    const [ta, tb] = ins.mods;
    const [d, a, b, c] = ins.operands;
    const [x, y] = [hold(g, g.read(a, 'b32')), hold(g, g.read(b, 'b32'))];
    const byte = (n: string, i: number, t: string): string =>
      t === 's32' ? `(${n}<<${24 - 8 * i}>>24)` : `((${n}>>>${8 * i})&255)`;
    g.write(
      d,
      'b32',
      `${g.read(c, 'b32')}+${[0, 1, 2, 3].map((i) => `${byte(x, i, ta)}*${byte(y, i, tb)}`).join('+')}`,
    );
  },
  setp,
  set,
  selp,
  mov,
  cvt,
  cvta: (g, ins) => {
    const space = ins.mods.find((m) => SPACES.has(m))?.split('::')[0];
    const [d, a] = ins.operands;
    const x = g.read(a, last(ins));
    if (space !== 'shared') g.write(d, last(ins), x);
    else g.write(d, last(ins), ins.mods[0] === 'to' ? `v.sub64(${x},v.window)` : `v.add64(${x},v.window)`);
  },
  ld: (g, ins) => access(g, ins, false),
  ldu: (g, ins) => access(g, ins, false),
  st: (g, ins) => access(g, ins, true),
  atom: (g, ins) => atomic(g, ins, true),
  red: (g, ins) => atomic(g, ins, false),
  prefetch: nothing,
  prefetchu: nothing,
  membar: nothing,
  fence: nothing,
  griddepcontrol: nothing,
  setmaxnreg: nothing,
  discard: nothing,
  applypriority: nothing,
  pragma: nothing,
  createpolicy: (g, ins) => g.write(ins.operands[0], 'b64', '0'),
  nanosleep: (g) => g.lines.push('w.yields=true;'),
  trap: (g, ins) => g.lines.push(`v.trap(${ins.line});`),
  activemask: (g, ins) => g.write(ins.operands[0], 'b32', 'w.activeMask(L,n)'),
  cp: (g, ins) => copyAsync(g, ins),
  mbarrier: (g, ins) => mbarrier(g, ins),
  mapa: (g, ins) =>
    g.write(
      ins.operands[0],
      'b32',
      `v.clusterAddress(${g.read(ins.operands[1], 'b32')},${g.read(ins.operands[2], 'b32')})`,
    ),
};

function copyAsync(g: Codegen, ins: Instruction): void {
  const [kind] = ins.mods.slice(1);
  if (ins.mods[0] !== 'async') throw new PtxError(`cp.${ins.mods.join('.')} is not supported`);
  if (kind === 'commit_group') g.lines.push('w.commit(l);');
  else if (kind === 'wait_group') g.lines.push(`w.wait(l,${g.read(ins.operands[0], 'b32')});`);
  else if (kind === 'wait_all') g.lines.push('w.commit(l);w.wait(l,0);');
  else if (kind === 'ca' || kind === 'cg') {
    const [to, from, size, bytes] = ins.operands;
    const n = Number((size as { text: string }).text);
    if (kind === 'cg' ? n !== 16 : ![4, 8, 16].includes(n)) throw new PtxError(`cp.async.${kind} of ${n} bytes`);
    g.lines.push(
      `w.copy(l,${g.address(to)},${g.address(from)},${n},${bytes && !g.isReg(bytes) ? g.read(bytes, 'b32') : bytes && g.typeOf((bytes as { name: string }).name) === 'pred' ? `(${g.read(bytes, 'pred')}?0:${n})` : bytes ? g.read(bytes, 'b32') : n});`,
    );
  } else if (ins.mods.join('.') === 'async.mbarrier.arrive.noinc.shared.b64') {
    g.lines.push(`w.arriveWithCopies(l,${g.address(ins.operands[0])});`);
  } else if (ins.mods.join('.') === 'async.bulk.prefetch.L2.global') {
    const [from, bytes] = ins.operands;
    g.lines.push(`w.prefetch(${g.address(from)},${g.read(bytes, 'b32')});`);
  } else throw new PtxError(`cp.${ins.mods.join('.')} is not supported`);
}

/** Barriers in shared memory, of this block. */
function mbarrier(g: Codegen, ins: Instruction): void {
  const form = ins.mods.join('.');
  const [x, y, z] = ins.operands;
  if (form === 'init.shared.b64')
    g.lines.push(`w.block.barriers.init(Number(${g.address(x)}),${g.read(y, 'b32')},w.base+l);`);
  else if (form === 'arrive.shared.b64') {
    g.write(x, 'b64', '0');
    g.lines.push(`w.block.barriers.arrive(Number(${g.address(y)}),w.base+l);`);
  } else if (form === 'try_wait.parity.shared.b64') {
    const over = hold(g, `w.block.barriers.isOver(Number(${g.address(y)}),${g.read(z, 'b32')},w.base+l)?1:0`);
    g.lines.push(`if(!${over})w.yields=true;`);
    g.write(x, 'pred', over);
  } else throw new PtxError(`mbarrier.${form} is not supported`);
}
