/* Both number formats and block sizes for one instruction set: BYTES of a vector, REGISTERS, LEVEL (a name). */

#define GLUE4(a, b, c, d) a##_##b##_##c##d
#define GLUE3(a, b, c, d) GLUE4(a, b, c, d)

#define FORMAT float
#define REAL float
#define INTEGER int32_t
#define TINY FLT_MIN
#define SIGNLESS 0x7fffffff
#include "format.inc.h"

#define FORMAT double
#define REAL double
#define INTEGER int64_t
#define TINY DBL_MIN
#define SIGNLESS 0x7fffffffffffffffLL
#include "format.inc.h"

#undef GLUE4
#undef GLUE3
