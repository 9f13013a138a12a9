# Varnish in front of tidegate, for smuggling/run.sh, which fills in the words between at signs. It keeps nothing.
vcl 4.1;

backend back {
  .host = "127.0.0.1";
  .port = "@BACK@";
}

sub vcl_recv {
  return (pass);
}
