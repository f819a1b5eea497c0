// In a frame of the gateway's page, which has a title and a notice of its own, and no way to see how
// tall this page is: the frame is of no origin.

if (window.parent !== window) {
  const root = document.documentElement;
  root.classList.add("framed");
  const tell = () => window.parent.postMessage({ reportHeight: root.offsetHeight }, "*");
  new ResizeObserver(tell).observe(root);
}
