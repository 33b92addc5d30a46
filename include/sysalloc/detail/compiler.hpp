// What compilers call differently: hints that change no meaning, so each may be nothing.

#ifndef SYSALLOC_DETAIL_COMPILER_HPP_
#define SYSALLOC_DETAIL_COMPILER_HPP_

#if defined(__GNUC__)

/// Never copied into its callers: what is rare, so that the fast path has no frame for it.
#define SYSALLOC_NOINLINE __attribute__((noinline))
/// Always copied into its callers: a part of a fast path that slow ones use, too. With so many of
/// them compilers may think otherwise, and a call would give the fast path a frame.
#define SYSALLOC_INLINE __attribute__((always_inline))
/// Called so often that where it begins is felt: at a line of the processor's cache, wherever the
/// rest of a program puts it.
#define SYSALLOC_HOT __attribute__((aligned(64)))
/// The same for the sized operator delete, which is longer than a line: 16 bytes into one. Where
/// its second line begins makes a tenth of a batch of deallocations (docs/cached.md). The attribute
/// is the one way to say so: room before a function for those who patch it while it runs.
#if defined(__x86_64__) && defined(__ELF__)
#define SYSALLOC_HOT_LONG SYSALLOC_HOT __attribute__((patchable_function_entry(16, 16)))
#else
#define SYSALLOC_HOT_LONG SYSALLOC_HOT
#endif
/// Next to never called.
#define SYSALLOC_COLD __attribute__((cold))
/// Of a member function that takes a pointer and does not read what it points to: g++ takes any
/// `const void*` for something that is read, and warns where nothing was written there yet.
#if defined(__clang__)
#define SYSALLOC_ADDRESS_ONLY
#else
#define SYSALLOC_ADDRESS_ONLY __attribute__((access(none, 2)))
#endif
/// Says that what is at an address will be read soon.
#define SYSALLOC_PREFETCH(address) __builtin_prefetch(address)
/// Reads what AddressSanitizer would not have read.
#define SYSALLOC_NO_ADDRESS_SANITIZER __attribute__((no_sanitize("address")))

#elif defined(_MSC_VER)

#define SYSALLOC_NOINLINE __declspec(noinline)
#define SYSALLOC_INLINE __forceinline
#define SYSALLOC_HOT
#define SYSALLOC_HOT_LONG
#define SYSALLOC_COLD
#define SYSALLOC_ADDRESS_ONLY
#define SYSALLOC_PREFETCH(address) static_cast<void>(address)
#define SYSALLOC_NO_ADDRESS_SANITIZER

#else

#define SYSALLOC_NOINLINE
#define SYSALLOC_INLINE
#define SYSALLOC_HOT
#define SYSALLOC_HOT_LONG
#define SYSALLOC_COLD
#define SYSALLOC_ADDRESS_ONLY
#define SYSALLOC_PREFETCH(address) static_cast<void>(address)
#define SYSALLOC_NO_ADDRESS_SANITIZER

#endif

// A member that takes no room when it is empty. To the Microsoft compiler the standard's attribute
// is a word without meaning.
#if defined(_MSC_VER)
#define SYSALLOC_NO_UNIQUE_ADDRESS [[msvc::no_unique_address]]
#else
#define SYSALLOC_NO_UNIQUE_ADDRESS [[no_unique_address]]
#endif

#endif  // SYSALLOC_DETAIL_COMPILER_HPP_
