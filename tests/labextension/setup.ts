/** What browsers have and jsdom lacks, and JupyterLab's widgets look for while they are imported. */
if (typeof window !== 'undefined') {
  window.DragEvent = class extends Event {} as unknown as typeof DragEvent;
  window.matchMedia = (media: string) =>
    Object.assign(new EventTarget(), { matches: false, media }) as MediaQueryList;
}

export {};
