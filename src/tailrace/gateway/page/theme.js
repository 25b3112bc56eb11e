// Before anything is painted: the theme that was chosen. Not a module, for those wait.
try {
  const theme = localStorage.getItem("tailrace.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // no storage here: as the system has it
}
