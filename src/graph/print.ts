/**
 * The text form of a graph: one line an input, constant, node or output, with types on every value.
 *
 *     graph net {
 *       input x: f32[n,3,224,224]
 *       const w: f32[3] = {1, 2.5, nan}
 *       const big: f32[64,3,7,7] = extern
 *       y: f32[n,64,112,112], _ = Conv(x, big, _, w) {strides=[2, 2], auto_pad="NOTSET"} loc(/stem/conv)
 *       output y
 *     }
 *
 * `_` is an absent input or output. Names that are no plain word are quoted as JSON. A large constant is `extern`: its elements are
 * elsewhere. What must hold: parse(print(g)) equals g to the bit. Printing a broken graph works, for the verifier's sake.
 */
import { DTYPES, type DType, type Scalar, type TypedArray } from '../core/dtype.ts';
import type { Dim, Shape } from '../core/shape.ts';
import { decodeScalar, encodeScalar, type Tensor, type ValueType } from '../core/tensor.ts';
import type { AttrValue, Graph, Node } from './ir.ts';

export interface PrintOptions {
  /** Constants of more elements are `extern`. Tensors in attributes are always printed. */
  readonly inlineElements?: number;
}

export interface PrintedLine {
  readonly kind: 'open' | 'input' | 'const' | 'node' | 'output' | 'close';
  /** Index among the lines of this kind: of the input, constant, node or output. */
  readonly index: number;
  readonly text: string;
}

const INLINE_ELEMENTS = 16;
/** A name made of these only is printed as it is, unless it is a word of the form's own. */
const PLAIN_NAME = /^[A-Za-z_/][A-Za-z0-9_./]*$/;
const KEYWORDS: ReadonlySet<string> = new Set(['_', 'graph', 'input', 'const', 'output']);

export const printGraph = (graph: Graph, options: PrintOptions = {}): string =>
  printLines(graph, options)
    .map((line) => line.text)
    .join('\n');

/** The lines of the text form; a node with a graph in an attribute has a text of several lines. */
export function printLines(graph: Graph, options: PrintOptions = {}): readonly PrintedLine[] {
  const inline = options.inlineElements ?? INLINE_ELEMENTS;
  const typed = (name: string): string => `${printName(name)}: ${printValueType(graph.values.get(name))}`;
  const lines: PrintedLine[] = [];
  const add = (kind: PrintedLine['kind'], index: number, text: string): void => {
    lines.push({ kind, index, text: kind === 'open' || kind === 'close' ? text : `  ${text}` });
  };
  add('open', 0, `graph ${printName(graph.name)} {`);
  for (const [i, name] of graph.inputs.entries()) add('input', i, `input ${typed(name)}`);
  for (const [i, [name, value]] of [...graph.constants].entries()) {
    const elements = value.data.length > inline ? 'extern' : printElements(value);
    add('const', i, `const ${printName(name)}: ${printValueType(value)} = ${elements}`);
  }
  for (const [i, node] of graph.nodes.entries()) add('node', i, printNode(node, typed, options));
  for (const [i, name] of graph.outputs.entries()) add('output', i, `output ${printName(name)}`);
  add('close', 0, '}');
  return lines;
}

function printNode(node: Node, typed: (name: string) => string, options: PrintOptions): string {
  const outputs = node.outputs.map((name) => (name === '' ? '_' : typed(name))).join(', ');
  const inputs = node.inputs.map((name) => (name === '' ? '_' : printName(name))).join(', ');
  const attrs = Object.entries(node.attrs).map(([key, value]) => `${printName(key)}=${printAttr(value, options)}`);
  const loc = node.loc.length === 0 ? '' : ` loc(${node.loc.map(printName).join(', ')})`;
  return `${outputs} = ${printName(node.op)}(${inputs})${attrs.length === 0 ? '' : ` {${attrs.join(', ')}}`}${loc}`;
}

const printName = (name: string): string =>
  PLAIN_NAME.test(name) && !KEYWORDS.has(name) ? name : JSON.stringify(name);

/** `?` where there is no type, which only the verifier ever sees. */
const printValueType = (type: ValueType | undefined): string =>
  type ? `${type.dtype}${printTypeShape(type.shape)}` : '?';
const printTypeShape = (shape: Shape): string => `[${shape.map(printTypeDim).join(',')}]`;

/** As printDim, with names quoted where they are no plain word, so that formulas in names cannot be taken for arithmetic. */
function printTypeDim(dim: Dim): string {
  if (typeof dim === 'number') return printNumber(dim);
  const terms = dim.terms.map((t) =>
    t.coef === 1 ? printName(t.name) : `${printNumber(t.coef)}*${printName(t.name)}`,
  );
  if (dim.constant !== 0) terms.push(printNumber(dim.constant));
  return terms.map((term, i) => (i === 0 || term.startsWith('-') ? term : `+${term}`)).join('');
}

export function printAttr(value: AttrValue, options: PrintOptions = {}): string {
  switch (typeof value) {
    case 'undefined':
      return 'none';
    case 'number':
      return printNumber(value);
    case 'string':
      return JSON.stringify(value);
    case 'boolean':
      return String(value);
    case 'object':
      return printCompound(value, options);
    default:
      return value satisfies never;
  }
}

function printCompound(value: Extract<AttrValue, object>, options: PrintOptions): string {
  if ('nodes' in value)
    return printGraph(value, { ...options, inlineElements: Number.POSITIVE_INFINITY }).replaceAll('\n', '\n  ');
  if ('dtype' in value) return `tensor ${printValueType(value)} ${printElements(value)}`;
  return `[${value.map((item) => printAttr(item, options)).join(', ')}]`;
}

/** The shortest text that JavaScript reads back as the same number. */
function printNumber(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  return Object.is(value, -0) ? '-0' : String(value);
}

function printElements(value: Tensor): string {
  const bits = bitsOf(value);
  return `{${Array.from(value.data as ArrayLike<Scalar>, (stored, i) => printElement(value.dtype, stored, bits, i)).join(', ')}}`;
}

/** A number; or the element's bits in hexadecimal where a number would lose some of them (a NaN with a payload). */
function printElement(dtype: DType, stored: Scalar, bits: TypedArray, i: number): string {
  const decoded = decodeScalar(dtype, stored);
  if (typeof decoded === 'bigint') return String(decoded);
  if (!Number.isNaN(decoded)) return dtype === 'f32' ? shortestF32(decoded) : printNumber(decoded);
  return bits[i] === canonicalNaN(dtype) ? 'nan' : `0x${bits[i].toString(16)}`;
}

/** The elements as unsigned integers of their width, sharing memory. */
export function bitsOf(value: Tensor): TypedArray {
  const { buffer, byteOffset, length } = value.data;
  switch (DTYPES[value.dtype].bytes) {
    case 1:
      return new Uint8Array(buffer, byteOffset, length);
    case 2:
      return new Uint16Array(buffer, byteOffset, length);
    case 4:
      return new Uint32Array(buffer, byteOffset, length);
    default:
      return new BigUint64Array(buffer, byteOffset, length);
  }
}

/** The bits that the word `nan` stands for. */
function canonicalNaN(dtype: DType): Scalar {
  if (dtype === 'f64') return 0x7ff8000000000000n;
  return dtype === 'f32' ? 0x7fc00000 : encodeScalar(dtype, Number.NaN);
}

/** Nine digits always tell a float32; most need fewer. */
function shortestF32(value: number): string {
  for (let digits = 6; digits <= 9 && Number.isFinite(value); digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return printNumber(short);
  }
  return printNumber(value);
}
