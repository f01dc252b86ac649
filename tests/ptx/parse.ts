/**
 * PTX text to records: entries with parameters, registers, shared variables, labels and instructions, each with its line.
 *
 * Written from the PTX ISA manual alone (chapters 4 to 7), so that it is a second opinion about what a compiler writes. Registers keep
 * their declared type; an operand is what the text says, its meaning depends on the instruction. Device functions are not read.
 */
export class PtxError extends Error {
  override readonly name = 'PtxError';
}

export type Operand =
  | { readonly kind: 'reg'; readonly name: string; readonly negated: boolean }
  | { readonly kind: 'number'; readonly text: string }
  /** A variable, label or special register. */
  | { readonly kind: 'name'; readonly name: string }
  | {
      readonly kind: 'address';
      readonly base: Operand | undefined;
      readonly offset: number;
      readonly rest: readonly Operand[];
    }
  | { readonly kind: 'list'; readonly items: readonly Operand[] }
  /** `d|p`: two destinations. */
  | { readonly kind: 'pair'; readonly a: Operand; readonly b: Operand };

export interface Instruction {
  readonly line: number;
  readonly text: string;
  readonly guard?: { readonly reg: string; readonly negated: boolean };
  /** `ld`, and what follows it between dots; `::` stays inside a part. */
  readonly op: string;
  readonly mods: readonly string[];
  readonly operands: readonly Operand[];
}

export interface Variable {
  readonly name: string;
  readonly align: number;
  readonly bytes: number;
  /** Contents of a module's constant, where given. */
  readonly data?: Uint8Array;
}

export interface Entry {
  readonly name: string;
  readonly params: readonly (Variable & { readonly type: string })[];
  /** Register name to type (`f32`, `pred`, …). */
  readonly regs: ReadonlyMap<string, string>;
  readonly shared: readonly Variable[];
  readonly local: readonly Variable[];
  /** The array whose size the launch says. */
  readonly dynamicShared: string | undefined;
  readonly code: readonly Instruction[];
  /** Label to index in code. */
  readonly labels: ReadonlyMap<string, number>;
  readonly maxThreads: number | undefined;
}

export interface PtxModule {
  readonly target: string;
  readonly entries: ReadonlyMap<string, Entry>;
  /** Module variables in constant or global memory. */
  readonly constants: readonly Variable[];
}

export const bytesOf = (type: string): number => (type === 'pred' ? 1 : Number(/\d+/.exec(type)?.[0] ?? 0) / 8);

interface Piece {
  readonly text: string;
  readonly line: number;
}

/** Statements, labels and braces, in order. */
function pieces(text: string): Piece[] {
  const clean = text.replace(/\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, ' ')).replace(/\/\/[^\n]*/g, '');
  const found: Piece[] = [];
  let line = 1;
  let start = -1;
  let startLine = 1;
  /** Braces of a vector operand, brackets and parentheses belong to the statement. */
  let depth = 0;
  const flush = (end: number): void => {
    const piece = start < 0 ? '' : clean.slice(start, end).trim().replace(/\s+/g, ' ');
    if (piece) found.push({ text: piece, line: startLine });
    start = -1;
  };
  for (let i = 0; i < clean.length; i++) {
    const c = clean[i];
    if (c === '\n') {
      line++;
      if (
        start >= 0 &&
        depth === 0 &&
        /^\s*\.(version|target|address_size|maxntid|reqntid|minnctapersm|maxnreg|explicitcluster|reqnctapercluster|maxclusterrank|noreturn|pragma)\b/.test(
          clean.slice(start, i),
        ) &&
        !clean.slice(start, i).includes('(')
      ) {
        flush(i);
      }
      continue;
    }
    if (c === ';' && depth === 0) {
      flush(i);
      continue;
    }
    if (
      c === ':' &&
      depth === 0 &&
      clean[i + 1] !== ':' &&
      clean[i - 1] !== ':' &&
      /^\s*[\w$%]+\s*$/.test(clean.slice(start, i))
    ) {
      flush(i);
      found.push({ text: ':', line });
      continue;
    }
    const opens =
      c === '{' &&
      start >= 0 &&
      /[,\s\]=]$|^[@.\w]/.test(clean.slice(start, i)) &&
      !/^\s*\.(visible|weak|entry|func)/.test(clean.slice(start, i));
    if ((c === '{' && !opens && depth === 0) || (c === '}' && depth === 0)) {
      flush(i);
      found.push({ text: c, line });
      continue;
    }
    if (c === '(' || c === '[' || c === '{') depth++;
    if (c === ')' || c === ']' || c === '}') depth--;
    if (start < 0 && !/\s/.test(c)) {
      start = i;
      startLine = line;
    }
  }
  flush(clean.length);
  return found;
}

export function parsePtx(text: string): PtxModule {
  const list = pieces(text);
  const entries = new Map<string, Entry>();
  const constants: Variable[] = [];
  const moduleShared: Variable[] = [];
  let dynamicShared: string | undefined;
  let target = '';
  for (let i = 0; i < list.length; i++) {
    const { text: s, line } = list[i];
    if (s.startsWith('.target')) target = s.slice(7).trim().split(',')[0];
    else if (s.startsWith('.extern .shared')) dynamicShared = /([\w$]+)\s*\[\s*\]$/.exec(s)?.[1];
    else if (/^(\.visible )?\.shared/.test(s)) moduleShared.push(variable(s, line));
    else if (/^(\.visible |\.weak )?\.(const|global)/.test(s)) constants.push(variable(s, line));
    else if (/\.entry\b/.test(s)) {
      let end = i;
      for (let depth = 0; ; ) {
        end++;
        if (end >= list.length) throw new PtxError(`line ${line}: entry without end`);
        if (list[end].text === '{') depth++;
        if (list[end].text === '}' && --depth === 0) break;
      }
      const entry = parseEntry(s, list.slice(i + 1, end), moduleShared, dynamicShared);
      entries.set(entry.name, entry);
      i = end;
    } else if (/\.func\b/.test(s)) throw new PtxError(`line ${line}: device functions are not supported`);
  }
  return { target, entries, constants };
}

function parseEntry(
  head: string,
  body: readonly Piece[],
  moduleShared: readonly Variable[],
  dynamic: string | undefined,
): Entry {
  const [, name, list = ''] = /\.entry\s+([\w$]+)\s*(?:\(([\s\S]*?)\))?/.exec(head) ?? [];
  const params = list
    .split(',')
    .map((p) => p.trim())
    .filter((p) => p)
    .map((p) => ({ ...variable(p, 0), type: /\.([usbf]\d+)\b/.exec(p)?.[1] ?? 'b8' }));
  const regs = new Map<string, string>();
  const shared = [...moduleShared];
  const local: Variable[] = [];
  const code: Instruction[] = [];
  const labels = new Map<string, number>();
  let dynamicShared = dynamic;
  let maxThreads: number | undefined;
  for (const [i, { text: s, line }] of body.entries()) {
    if (s === '{' || s === '}' || s === ':') continue;
    if (body[i + 1]?.text === ':') labels.set(s, code.length);
    else if (s.startsWith('.reg')) declareRegs(s, regs, line);
    else if (s.startsWith('.shared')) shared.push(variable(s, line));
    else if (s.startsWith('.extern .shared')) dynamicShared = /([\w$]+)\s*\[\s*\]$/.exec(s)?.[1];
    else if (s.startsWith('.local')) local.push(variable(s, line));
    else if (/^\.(maxntid|reqntid)/.test(s)) maxThreads = product(s);
    else if (s.startsWith('.')) continue;
    else code.push(parseInstruction(s, line));
  }
  const fromHead = /\.(?:maxntid|reqntid)\s+([\d, ]+)/.exec(head);
  if (fromHead) maxThreads = product(fromHead[0]);
  return { name, params, regs, shared, local, dynamicShared, code, labels, maxThreads };
}

const product = (s: string): number => (s.match(/\d+/g) ?? []).reduce((n, x) => n * Number(x), 1);

function declareRegs(s: string, regs: Map<string, string>, line: number): void {
  const [, type, names] = /^\.reg\s+(?:\.v\d\s+)?\.(\w+)\s+(.*)$/.exec(s) ?? [];
  if (!type) throw new PtxError(`line ${line}: ${s}`);
  for (const name of names.split(',').map((n) => n.trim())) {
    const [, stem, count] = /^([\w%$]+)<(\d+)>$/.exec(name) ?? [];
    if (!stem) regs.set(name, type);
    else for (let i = 0; i < Number(count); i++) regs.set(`${stem}${i}`, type);
  }
}

function variable(s: string, line: number): Variable {
  const [decl, init] = s.split('=');
  const type = /\.([usbf]\d+|pred|bf16|f16)\b/.exec(decl.replace(/\.align \d+/, ''))?.[1] ?? 'b8';
  const [, name, size] = /([\w$%]+)\s*((?:\[\s*\d*\s*\])*)\s*$/.exec(decl.trim()) ?? [];
  if (!name) throw new PtxError(`line ${line}: ${s}`);
  const count = size ? product(size) : 1;
  const align = Number(/\.align (\d+)/.exec(decl)?.[1] ?? bytesOf(type));
  const bytes = count * bytesOf(type);
  return { name, align, bytes, ...(init && { data: initial(init, type, bytes) }) };
}

function initial(init: string, type: string, bytes: number): Uint8Array {
  const data = new DataView(new ArrayBuffer(bytes));
  const size = bytesOf(type);
  for (const [i, text] of init.replace(/[{}]/g, '').split(',').entries()) {
    const bits = literalBits(text.trim(), type);
    for (let b = 0; b < size; b++) data.setUint8(i * size + b, Number((bits >> BigInt(8 * b)) & 255n));
  }
  return new Uint8Array(data.buffer);
}

const scratch = new DataView(new ArrayBuffer(8));

/** The bits of a literal as the type stores them, from the low end. */
export function literalBits(text: string, type: string): bigint {
  const negative = text.startsWith('-');
  const digits = negative ? text.slice(1) : text;
  if (/^0[fF][0-9a-fA-F]{8}$/.test(digits)) return signed(BigInt(`0x${digits.slice(2)}`), negative, 31n);
  if (/^0[dD][0-9a-fA-F]{16}$/.test(digits)) return signed(BigInt(`0x${digits.slice(2)}`), negative, 63n);
  if (type === 'f64' || type === 'f32') {
    if (type === 'f64') scratch.setFloat64(0, Number(text));
    else scratch.setFloat32(0, Number(text));
    return type === 'f64' ? scratch.getBigUint64(0) : BigInt(scratch.getUint32(0));
  }
  const value = BigInt(digits.replace(/U$/, ''));
  return negative ? -value : value;
}
const signed = (bits: bigint, negative: boolean, at: bigint): bigint => (negative ? bits ^ (1n << at) : bits);

function parseInstruction(s: string, line: number): Instruction {
  const [, negated, reg, rest] = /^@(!?)([\w%$]+)\s+(.*)$/.exec(s) ?? [undefined, '', '', s];
  const [, head, tail] = /^([\w.:]+)\s*(.*)$/.exec(rest) ?? [];
  if (!head) throw new PtxError(`line ${line}: ${s}`);
  const [op, ...mods] = head.split('.');
  return {
    line,
    text: s,
    ...(reg && { guard: { reg, negated: negated === '!' } }),
    op,
    mods,
    operands: split(tail).map((o) => operand(o, line)),
  };
}

function split(s: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let from = 0;
  for (let i = 0; i < s.length; i++) {
    if ('([{'.includes(s[i])) depth++;
    else if (')]}'.includes(s[i])) depth--;
    else if (s[i] === ',' && depth === 0) {
      parts.push(s.slice(from, i));
      from = i + 1;
    }
  }
  return [...parts, s.slice(from)].map((p) => p.trim()).filter((p) => p);
}

function operand(s: string, line: number): Operand {
  if (s.startsWith('{')) return { kind: 'list', items: split(s.slice(1, -1)).map((x) => operand(x, line)) };
  if (s.startsWith('[')) {
    const [first, ...rest] = split(s.slice(1, -1));
    const [, base, sign, offset = '0'] = /^([\w%$.]+)?\s*(?:([+-]|^)?\s*(-?(?:0x[\da-fA-F]+|\d+)))?$/.exec(first) ?? [];
    if (base === undefined && first !== offset) throw new PtxError(`line ${line}: address ${s}`);
    const isNumber = base !== undefined && /^\d/.test(base);
    return {
      kind: 'address',
      base: base === undefined || isNumber ? undefined : operand(base, line),
      offset: isNumber ? Number(base) : Number(offset) * (sign === '-' ? -1 : 1),
      rest: rest.map((x) => operand(x, line)),
    };
  }
  const bar = s.indexOf('|');
  if (bar > 0)
    return { kind: 'pair', a: operand(s.slice(0, bar).trim(), line), b: operand(s.slice(bar + 1).trim(), line) };
  if (/^-?\d/.test(s)) return { kind: 'number', text: s };
  if (s.startsWith('!')) return { kind: 'reg', name: s.slice(1).trim(), negated: true };
  if (SPECIAL.test(s)) return { kind: 'name', name: s };
  return s.startsWith('%') ? { kind: 'reg', name: s, negated: false } : { kind: 'name', name: s };
}

const SPECIAL =
  /^%(tid|ntid|ctaid|nctaid|cluster_ctaid|cluster_nctaid|clusterid|nclusterid)\.[xyz]$|^%(laneid|warpid|nwarpid|smid|nsmid|gridid|clock|clock64|globaltimer|lanemask_\w+|cluster_ctarank|cluster_nctarank|dynamic_smem_size|total_smem_size)$/;
