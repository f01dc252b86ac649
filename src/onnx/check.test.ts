/** Each rule of the checker by a model that breaks it and nothing else, and the well-formed model beside it. */
import { create, toBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { OPS } from '../ops/all.ts';
import {
  type AttributeProto,
  AttributeProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  ValueInfoProtoSchema,
} from './onnx_pb.ts';
import { readOnnx } from './read.ts';

const FLOAT = 1;
const value = (name: string, elemType = FLOAT, dims: readonly number[] = [2, 3]) => ({
  name,
  type: {
    value: {
      case: 'tensorType' as const,
      value: {
        elemType,
        shape: { dim: dims.map((d) => ({ value: { case: 'dimValue' as const, value: BigInt(d) } })) },
      },
    },
  },
});
const wellFormed = (): ModelProto =>
  create(ModelProtoSchema, {
    irVersion: 9n,
    opsetImport: [{ domain: '', version: 17n }],
    graph: {
      name: 'g',
      node: [
        {
          opType: 'Softmax',
          name: 's',
          input: ['x'],
          output: ['t'],
          attribute: [{ name: 'axis', type: 2, i: 1n }],
        },
        { opType: 'Add', name: 'a', input: ['t', 'w'], output: ['y'] },
      ],
      initializer: [{ name: 'w', dims: [3n], dataType: FLOAT, floatData: [1, 2, 3] }],
      input: [value('x')],
      output: [value('y')],
    },
  });
const axis = (fields: Partial<AttributeProto>): AttributeProto =>
  create(AttributeProtoSchema, { name: 'axis', ...(fields as object) });

const warnings: string[] = [];
function read(change: (model: ModelProto) => void): string {
  const model = wellFormed();
  change(model);
  warnings.length = 0;
  try {
    readOnnx(toBinary(ModelProtoSchema, model), { ops: OPS, onWarning: (w) => warnings.push(w) });
    return '';
  } catch (error) {
    if (error instanceof ModelError) return error.details.length > 0 ? error.details.join('; ') : error.message;
    throw error;
  }
}

const BROKEN: readonly (readonly [string, (m: ModelProto) => void, string])[] = [
  [
    'an operator set twice',
    (m) => m.opsetImport.push({ ...m.opsetImport[0], version: 13n }),
    'imports the operator set "ai.onnx" twice',
  ],
  ['no operator set', (m) => m.opsetImport.splice(0), 'the model imports no operator set'],
  [
    'an operator set of version 0',
    (m) => {
      m.opsetImport[0].version = 0n;
    },
    'the model is of opset 0',
  ],
  [
    'no operator',
    (m) => {
      m.graph!.node[1].opType = '';
    },
    'node "a" names no operator',
  ],
  [
    'a domain that is not imported',
    (m) => {
      m.graph!.node[1].domain = 'com.microsoft';
      m.graph!.node[1].opType = 'BiasGelu';
    },
    'BiasGelu "a" is of domain "com.microsoft", which the model does not import',
  ],
  [
    'an attribute twice',
    (m) => m.graph!.node[0].attribute.push(axis({ type: 2, i: 0n })),
    'attribute of Softmax "s" "axis" is there twice',
  ],
  [
    'an attribute without a name',
    (m) => {
      m.graph!.node[0].attribute[0].name = '';
    },
    'an attribute of Softmax "s" has no name',
  ],
  [
    'an attribute without a type',
    (m) => {
      m.graph!.node[0].attribute[0].type = 0;
    },
    '"axis" does not state its type',
  ],
  [
    'an attribute with two values',
    (m) => {
      m.graph!.node[0].attribute[0].f = 1;
    },
    '"axis" has several values: a float and an int',
  ],
  [
    'an attribute that is not what it says',
    (m) => {
      m.graph!.node[0].attribute[0] = axis({ type: 2, f: 1 });
    },
    'says that it is an int and holds a float',
  ],
  [
    'an attribute of another type than the operator has',
    (m) => {
      m.graph!.node[0].attribute[0] = axis({ type: 1, f: 1 });
    },
    'Softmax "s": attribute "axis" is a float, expected an int',
  ],
  [
    'an initializer without a name',
    (m) => {
      m.graph!.initializer[0].name = '';
    },
    'an initializer has no name',
  ],
  ['an initializer twice', (m) => m.graph!.initializer.push(m.graph!.initializer[0]), 'initializer "w" is there twice'],
  [
    'an initializer without a type',
    (m) => {
      m.graph!.initializer[0].dataType = 0;
    },
    'initializer "w" has no element type',
  ],
  [
    'elements twice',
    (m) => {
      m.graph!.initializer[0].rawData = new Uint8Array(12);
    },
    'initializer "w" (float) has its elements twice: floatData and rawData',
  ],
  [
    'a negative dim',
    (m) => {
      m.graph!.initializer[0].dims = [-3n];
    },
    'initializer "w" has a negative dim: -3',
  ],
  ['an output twice', (m) => m.graph!.output.push(m.graph!.output[0]), 'value "y" is an output of graph "g" already'],
  [
    'an output of another element type',
    (m) => {
      m.graph!.output[0] = create(ValueInfoProtoSchema, value('y', 7));
    },
    'output "y" is declared as int64, but what computes it gives float',
  ],
];

describe('a model is refused that has', () => {
  it.each(BROKEN)('%s', (_, change, message) => {
    expect(read((m) => void change(m))).toContain(message);
  });
});

it('a well-formed model is read, without a graph name too', () => {
  expect(read(() => {})).toBe('');
  expect(
    read((m) => {
      m.graph!.name = '';
    }),
  ).toBe('');
  expect(warnings).toEqual([]);
});

it('problems are told all at once', () => {
  const message = read((m) => {
    for (const [, change] of BROKEN.slice(9, 16)) change(m);
    m.graph!.node[1].opType = 'Foo';
  });
  expect(message.split('; ').length).toBeGreaterThanOrEqual(5);
  expect(message).toContain('operator Foo is not supported');
});

it('an output shape that inference contradicts is a warning: exporters get it wrong', () => {
  const message = read((m) => {
    m.graph!.output[0] = create(ValueInfoProtoSchema, value('y', FLOAT, [2, 4]));
  });
  expect(message).toBe('');
  expect(warnings).toEqual(['output "y" is declared as [2,4], but has shape [2,3]']);
});

it('a file of IR version 2 states neither operator sets nor types of attributes', () => {
  const message = read((m) => {
    m.irVersion = 2n;
    m.opsetImport.splice(0);
    m.graph!.node[0].attribute[0].type = 0;
  });
  expect(message).not.toMatch(/import|state its type/);
});
