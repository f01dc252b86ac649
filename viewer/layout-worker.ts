/** Lays out scenes off the page's thread: first the sides and groups come, then requests with the open blocks. */
import type { PageModel } from '../src/view/page.ts';
import { layoutScene } from '../src/view/scene.ts';

let model: PageModel | undefined;

self.onmessage = ({ data }: MessageEvent) => {
  if (data.model) {
    model = data.model;
    return;
  }
  const side = model?.[data.side as 'graph' | 'engine'];
  if (model && side) self.postMessage({ id: data.id, scene: layoutScene(side, model.groups, new Set(data.open)) });
};
