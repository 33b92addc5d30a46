// Entry point of the micro workloads. Which of them an executable has depends
// on the files it was linked with; see ../meson.build. Beside the results it
// says where operator new came from, as the proof that the allocator measured
// is the one that was meant.
#include <benchmark/benchmark.h>

#if __has_include(<dlfcn.h>)
#include <dlfcn.h>
#endif

namespace {

// The file operator new is in: this executable, if it was linked in, or a
// shared library. Asked by its name, since the address of a function as the
// executable sees it may be that of a stub.
const char* operator_new_file() {
#if defined(RTLD_DEFAULT) && defined(__SIZEOF_POINTER__)
  const char* name = __SIZEOF_POINTER__ == 8 ? "_Znwm" : "_Znwj";
  Dl_info info{};
  const void* address = dlsym(RTLD_DEFAULT, name);
  if (address != nullptr && dladdr(address, &info) != 0) return info.dli_fname;
#endif
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("operator_new", operator_new_file());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
