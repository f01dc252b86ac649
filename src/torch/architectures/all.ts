/**
 * The architectures, a family a line.
 */
import type { Architecture, Family } from './architecture.ts';
import { CONVNEXT } from './convnext.ts';
import { DENSENET } from './densenet.ts';
import { EFFICIENTNET } from './efficientnet.ts';
import { MOBILENET_V2, MOBILENET_V3 } from './mobilenet.ts';
import { RESNET } from './resnet.ts';
import { SQUEEZENET } from './squeezenet.ts';
import { VGG } from './vgg.ts';
import { VIT } from './vit.ts';

export const FAMILIES: readonly Family[] = [
  RESNET,
  VGG,
  SQUEEZENET,
  DENSENET,
  MOBILENET_V2,
  MOBILENET_V3,
  EFFICIENTNET,
  CONVNEXT,
  VIT,
];

export interface Known {
  readonly architecture: Architecture;
  readonly family: Family;
}

/** By name, in the order of the families. */
export const ARCHITECTURES: ReadonlyMap<string, Known> = new Map(
  FAMILIES.flatMap((family) =>
    family.members.map((architecture): [string, Known] => [architecture.name, { architecture, family }]),
  ),
);
