/* The host kernel's own TCP loopback, as the model's stream benchmark uses its: one thread on one CPU writes a block
   and reads it back at the other end, all bytes copied in and out. Prints: name, ns of CPU time per write, GB/s of
   CPU time, GB/s of wall time. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  size_t bytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 65536;
  double seconds = argc > 2 ? atof(argv[2]) : 0.5;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  sched_setaffinity(0, sizeof set, &set);

  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof addr;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&addr, len) < 0) die("bind");
  if (listen(listener, 1) < 0) die("listen");
  getsockname(listener, (struct sockaddr *)&addr, &len);
  int writer = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(writer, (struct sockaddr *)&addr, len) < 0) die("connect");
  int reader = accept(listener, NULL, NULL);
  fcntl(writer, F_SETFL, O_NONBLOCK);
  fcntl(reader, F_SETFL, O_NONBLOCK);

  char *out = malloc(bytes), *in = malloc(bytes);
  memset(out, 1, bytes);
  memset(in, 0, bytes);
  double writes = 0, moved = 0, wall = 0, cpu = 0;
  for (int warm = 1; warm >= 0; warm--) {
    writes = moved = 0;
    double wall0 = now(CLOCK_MONOTONIC), cpu0 = now(CLOCK_PROCESS_CPUTIME_ID);
    double end = wall0 + (warm ? seconds / 4 : seconds);
    while (now(CLOCK_MONOTONIC) < end)
      for (int i = 0; i < 64; i++) {
        ssize_t n = write(writer, out, bytes);
        if (n < 0 && errno != EAGAIN) die("write");
        writes++;
        while ((n = read(reader, in, bytes)) > 0) moved += n;
      }
    wall = now(CLOCK_MONOTONIC) - wall0;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu0;
  }
  printf("tcp.lo\t%.1f\t%.2f\t%.2f\n", cpu * 1e9 / writes, moved / cpu / 1e9, moved / wall / 1e9);
  return 0;
}
