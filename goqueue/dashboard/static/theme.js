// Before the first paint: the theme that was chosen here, or else the system's.
"use strict";
try {
  const theme = localStorage.getItem("goqueue-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing has the system's theme.
}
