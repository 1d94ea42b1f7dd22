export * from './model';
export * from './panel';
export * from './sections';
export * from './tokens';
