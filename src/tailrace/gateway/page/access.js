// The key that opens the server, where it wants one. A worker is told it by the tabs.

export const access = {
  key: "",
  get headers() {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  },
};
