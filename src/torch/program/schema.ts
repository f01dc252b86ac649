/**
 * What torch.export.save writes of a program, as records: its nodes, what its inputs stand for, and the types of its tensors.
 *
 * The format is PyTorch's own and has a version; major version 8 (PyTorch 2.4 and later) is read. Fields: PyTorch's
 * torch/_export/serde/schema.py.
 */
import type { DType } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import { type Dim, sym } from '../../core/shape.ts';
import type { ValueType } from '../../core/tensor.ts';
import { type Json, listOf, memberOf, numberOf, objectOf, parseJson, textOf } from './json.ts';

export type Argument =
  | { readonly kind: 'none' }
  | { readonly kind: 'tensor'; readonly name: string }
  /** Undefined where a list may leave tensors out. */
  | { readonly kind: 'tensors'; readonly names: readonly (string | undefined)[] }
  /** Numbers, and names of sizes that only running tells. */
  | { readonly kind: 'numbers'; readonly values: readonly (number | string)[] }
  | { readonly kind: 'number'; readonly value: number | string; readonly isFloat: boolean }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'dtype'; readonly code: number }
  /** What says nothing about values: devices, layouts, memory formats. */
  | { readonly kind: 'other'; readonly type: string };

export interface ProgramNode {
  /** `aten.conv2d.default`, or a function of Python on sizes. */
  readonly target: string;
  readonly name: string;
  readonly inputs: ReadonlyMap<string, Argument>;
  readonly outputs: readonly Argument[];
}

/** Where the value of a graph input comes from. */
export type InputSource =
  | { readonly kind: 'user'; readonly name: string }
  | { readonly kind: 'weight'; readonly name: string; readonly key: string }
  | { readonly kind: 'constant'; readonly name: string; readonly key: string };

export interface Program {
  readonly inputs: readonly InputSource[];
  readonly nodes: readonly ProgramNode[];
  /** Names of the tensors that the program returns. */
  readonly outputs: readonly string[];
  readonly types: ReadonlyMap<string, ValueType>;
}

const MAJOR = 8;

/** PyTorch's ScalarType as the format numbers it. */
const DTYPES_BY_CODE: ReadonlyMap<number, DType> = new Map([
  [1, 'u8'],
  [2, 'i8'],
  [3, 'i16'],
  [4, 'i32'],
  [5, 'i64'],
  [6, 'f16'],
  [7, 'f32'],
  [8, 'f64'],
  [12, 'bool'],
  [13, 'bf16'],
  [28, 'u16'],
]);

/** Throws ModelError `torch-unsupported`. */
export function dtypeOfCode(code: number, what: string): DType {
  const dtype = DTYPES_BY_CODE.get(code);
  if (dtype) return dtype;
  throw new ModelError(
    'torch-unsupported',
    `${what} has an element type (ScalarType ${code}) that Hotrod does not have`,
  );
}

/** Throws ModelError `torch-parse` or `torch-unsupported`. */
export function parseProgram(bytes: Uint8Array): Program {
  const root = objectOf(parseJson(bytes, 'the program'), 'the program');
  const major = numberOf(objectOf(root.schema_version, 'schema_version').major, 'schema_version.major');
  if (major !== MAJOR) {
    throw new ModelError(
      'torch-unsupported',
      `the exported program has version ${major} of its format, expected ${MAJOR}`,
      {
        hint: 'Export it again with a current PyTorch.',
      },
    );
  }
  const module = objectOf(root.graph_module, 'graph_module');
  const graph = objectOf(module.graph, 'graph');
  const signature = objectOf(module.signature, 'signature');
  const types = new Map(
    Object.entries(objectOf(graph.tensor_values, 'tensor_values')).map(([name, meta]) => [name, typeOf(meta, name)]),
  );
  return {
    inputs: listOf(signature.input_specs, 'input_specs').map(inputSource),
    nodes: listOf(graph.nodes, 'nodes').map(nodeOf),
    outputs: listOf(signature.output_specs, 'output_specs').flatMap(outputName),
    types,
  };
}

/** A tensor's dtype and dims; dims that are formulas are symbols named by the tensor, other symbols keep their name. */
export function typeOf(meta: Json, name: string): ValueType {
  const { dtype, sizes } = objectOf(meta, `the type of ${name}`);
  const dims = listOf(sizes, `the sizes of ${name}`).map((size, i): Dim => {
    const [kind, value] = memberOf(size, `size ${i} of ${name}`);
    if (kind === 'as_int') return numberOf(value, `size ${i} of ${name}`);
    const text = textOf(objectOf(value, `size ${i} of ${name}`).expr_str, `size ${i} of ${name}`);
    const [, symbol] = /^(?:Symbol\('(\w+)'.*\)|\w+)$/.exec(text) ?? [];
    return sym(symbol ?? (/^[A-Za-z_]\w*$/.test(text) ? text : `${name}_${i}`));
  });
  return { dtype: dtypeOfCode(numberOf(dtype, `the dtype of ${name}`), `tensor "${name}"`), shape: dims };
}

function inputSource(spec: Json, i: number): InputSource {
  const where = `input_specs[${i}]`;
  const [kind, value] = memberOf(spec, where);
  const fields = objectOf(value, where);
  const name = (): string => textOf(objectOf(fields.arg, where).name, where);
  switch (kind) {
    case 'user_input': {
      const arg = argumentOf(fields.arg, where);
      if (arg.kind === 'tensor') return { kind: 'user', name: arg.name };
      throw new ModelError('torch-unsupported', `input ${i} of the exported program is no tensor`, {
        hint: 'Export the model with tensors as its only inputs.',
      });
    }
    case 'parameter':
      return { kind: 'weight', name: name(), key: textOf(fields.parameter_name, where) };
    case 'buffer': {
      // Buffers that the state dict leaves out lie among the constants.
      const key = textOf(fields.buffer_name, where);
      return fields.persistent === false
        ? { kind: 'constant', name: name(), key }
        : { kind: 'weight', name: name(), key };
    }
    case 'tensor_constant':
      return { kind: 'constant', name: name(), key: textOf(fields.tensor_constant_name, where) };
    default:
      throw new ModelError(
        'torch-unsupported',
        `input ${i} of the exported program is a ${kind}, which Hotrod does not read`,
      );
  }
}

function outputName(spec: Json, i: number): string[] {
  const where = `output_specs[${i}]`;
  const [kind, value] = memberOf(spec, where);
  if (kind !== 'user_output') {
    throw new ModelError('torch-unsupported', `the exported program has a ${kind.replace('_', ' ')} as output ${i}`, {
      hint: 'Export the model in evaluation mode: model.eval().',
    });
  }
  const arg = argumentOf(objectOf(value, where).arg, where);
  if (arg.kind === 'tensor') return [arg.name];
  if (arg.kind === 'none') return [];
  throw new ModelError('torch-unsupported', `output ${i} of the exported program is no tensor`);
}

function nodeOf(value: Json, i: number): ProgramNode {
  const where = `nodes[${i}]`;
  const { target, inputs, outputs, name } = objectOf(value, where);
  const args = listOf(inputs, where).map((input): [string, Argument] => {
    const fields = objectOf(input, where);
    return [textOf(fields.name, where), argumentOf(fields.arg, where)];
  });
  const short = textOf(target, where).replace(/^torch\.ops\./, '');
  return {
    target: short,
    name: typeof name === 'string' ? name : `${short}#${i}`,
    inputs: new Map(args),
    outputs: listOf(outputs, where).map((output) => argumentOf(output, where)),
  };
}

function argumentOf(value: Json | undefined, where: string): Argument {
  const [kind, member] = memberOf(value, where);
  switch (kind) {
    case 'as_none':
      return { kind: 'none' };
    case 'as_tensor':
      return { kind: 'tensor', name: textOf(objectOf(member, where).name, where) };
    case 'as_optional_tensor': {
      const [inner, tensor] = memberOf(member, where);
      return inner === 'as_none'
        ? { kind: 'none' }
        : { kind: 'tensor', name: textOf(objectOf(tensor, where).name, where) };
    }
    case 'as_tensors':
      return { kind: 'tensors', names: listOf(member, where).map((t) => textOf(objectOf(t, where).name, where)) };
    case 'as_optional_tensors':
      return { kind: 'tensors', names: listOf(member, where).map((t) => optionalName(t, where)) };
    case 'as_int':
      return { kind: 'number', value: numberOf(member, where), isFloat: false };
    case 'as_float':
      return { kind: 'number', value: numberOf(member, where), isFloat: true };
    case 'as_ints':
    case 'as_floats':
      return { kind: 'numbers', values: listOf(member, where).map((n) => numberOf(n, where)) };
    case 'as_sym_int':
    case 'as_sym_float':
      return { kind: 'number', value: symbolic(member, where), isFloat: kind === 'as_sym_float' };
    case 'as_sym_ints':
    case 'as_sym_floats':
      return { kind: 'numbers', values: listOf(member, where).map((n) => symbolic(n, where)) };
    case 'as_bool':
      return { kind: 'bool', value: member === true };
    case 'as_string':
      return { kind: 'text', value: textOf(member, where) };
    case 'as_scalar_type':
      return { kind: 'dtype', code: numberOf(member, where) };
    default:
      return { kind: 'other', type: kind };
  }
}

function optionalName(value: Json, where: string): string | undefined {
  const [kind, member] = memberOf(value, where);
  return kind === 'as_none' ? undefined : textOf(objectOf(member, where).name, where);
}

/** A number, or the name of one that is computed. */
function symbolic(value: Json, where: string): number | string {
  const [kind, member] = memberOf(value, where);
  return kind === 'as_name' ? textOf(member, where) : numberOf(member, where);
}
